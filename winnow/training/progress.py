"""Progress of training: a bar with the current loss, or plain lines where there is no terminal."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

# Without a terminal.
SECONDS_PER_LINE = 15.0


@contextmanager
def training_progress(console: Console, name: str) -> Iterator["TrainingProgress"]:
    """Report the training of the network of this name; the bar disappears at the end."""
    bar = None
    if console.is_terminal:
        bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}  {task.fields[rate]:,.0f} examples/s"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
    with bar or nullcontext():
        yield TrainingProgress(console, name, bar)


class TrainingProgress:
    """Reports the steps and epochs of one network."""

    def __init__(self, console: Console, name: str, bar: Progress | None) -> None:
        self._console = console
        self._name = name
        self._bar = bar
        self._task: TaskID | None = None

    def before_training(self, figures: Mapping[str, float]) -> None:
        """Print the figures on validation before the first epoch."""
        self._console.print(f"{self._name}, before training: {_shown(figures)}", highlight=False, soft_wrap=True)

    def start_epoch(self, epoch: int, epochs: int, steps: int) -> None:
        """Begin an epoch, counted from 1."""
        self._label = f"{self._name}, epoch {epoch} of {epochs}"
        self._step, self._steps = 0, steps
        self._loss_sum, self._example_count = 0.0, 0
        self._began = self._last_line = time.monotonic()
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(self._label, total=steps, loss=0.0, rate=0.0)

    def advance(self, loss: float, example_count: int) -> None:
        """Report one step: the mean loss and the number of its examples."""
        self._step += 1
        self._loss_sum += loss * example_count
        self._example_count += example_count
        now = time.monotonic()
        rate = self._example_count / max(now - self._began, 1e-9)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=1, loss=self.mean_loss, rate=rate)
        elif now - self._last_line > SECONDS_PER_LINE:
            self._last_line = now
            remaining = (now - self._began) * (self._steps - self._step) / self._step
            self._console.print(
                f"{self._label}: step {self._step} of {self._steps}, loss {self.mean_loss:.4f}, "
                f"{rate:,.0f} examples/s, {remaining:.0f} s left",
                highlight=False,
                soft_wrap=True,
            )

    def end_epoch(self, figures: Mapping[str, float]) -> None:
        """Print the mean loss, the duration and the figures on validation of an epoch."""
        seconds = time.monotonic() - self._began
        self._console.print(
            f"{self._label}: loss {self.mean_loss:.4f} in {seconds:.0f} s  {_shown(figures)}",
            highlight=False,
            soft_wrap=True,
        )

    def stop_early(self, epoch: int, patience: int) -> None:
        """Say that no further epoch follows this one, counted from 1."""
        self._console.print(
            f"{self._name}: stopped after epoch {epoch}, {patience} after the best one", highlight=False, soft_wrap=True
        )

    @property
    def mean_loss(self) -> float:
        """The mean loss of the epoch's examples so far."""
        return self._loss_sum / max(self._example_count, 1)


def _shown(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
