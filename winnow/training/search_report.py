"""What a search leaves behind: the best settings, a table of all trials, a plot of what mattered."""

import csv
import io
from pathlib import Path

from optuna.trial import TrialState
from rich.box import SIMPLE
from rich.table import Table

from winnow.evaluation import plots
from winnow.training.search import MEASURE, Search
from winnow.training.search_space import as_toml

SETTINGS_FILE, TRIALS_FILE, PLOT_FILE = "settings.toml", "trials.csv", "importances.png"
SHOWN_TRIALS = 5


def write_results(search: Search, directory: Path) -> None:
    """Write SETTINGS_FILE and TRIALS_FILE, each in one step, so that a process that is killed leaves whole files.

    Raises OSError.
    """
    _replace(directory / SETTINGS_FILE, settings_text(search).encode())
    _replace(directory / TRIALS_FILE, _trials(search).encode())


def write_plot(search: Search, directory: Path) -> bool:
    """Draw PLOT_FILE; return whether there are enough trials for it. Raises OSError."""
    shares = search.importances()
    if shares:
        _replace(directory / PLOT_FILE, plots.importances(shares))
    return bool(shares)


def settings_text(search: Search) -> str:
    """Return the best settings as a file for `winnow train --settings`; without a completed trial, nothing is set."""
    if not search.completed:
        return "# No trial was completed: these are the settings of the preset auto.\n"
    best = search.completed[0]
    about = (
        f"# Trial {best.number} of winnow tune, for the preset auto: {MEASURE} {best.values[0]:.4f} on validation.\n"
    )
    return about + as_toml(best.params)


def table(search: Search) -> Table:
    """Build a table of the best trials, one column each; trial 0 is of the settings that the search began with."""
    made = Table("trial", box=SIMPLE, title="The best trials")
    best = search.completed[:SHOWN_TRIALS]
    for trial in best:
        made.add_column(str(trial.number), justify="right", no_wrap=True)
    made.add_row("NDCG@10 on validation", *(f"{trial.values[0]:.4f}" for trial in best))
    for name in best[0].params if best else ():
        made.add_row(name, *(f"{trial.params[name]:.3g}" for trial in best))
    return made


def importances_table(search: Search) -> Table:
    """Build a table of what mattered."""
    made = Table("setting", "importance", box=SIMPLE, title="What mattered")
    for name, share in search.importances().items():
        made.add_row(name, f"{share:.2f}")
    return made


def _trials(search: Search) -> str:
    text = io.StringIO()
    trials = search.study.get_trials(deepcopy=False)
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    writer = csv.writer(text)
    writer.writerow(["trial", "state", MEASURE, "seconds", *names])
    for trial in trials:
        # What a trial that was pruned reached is not comparable: its ranking network was not trained.
        measure = trial.values[0] if trial.state is TrialState.COMPLETE and trial.values else ""
        seconds = "" if trial.duration is None else f"{trial.duration.total_seconds():.1f}"
        values = (trial.params.get(name, "") for name in names)
        writer.writerow([trial.number, trial.state.name.lower(), measure, seconds, *values])
    return text.getvalue()


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)
