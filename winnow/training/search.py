"""Searches for better settings than those of the preset `auto`: trials, pruned on validation, kept in a SQLite file.

The measure is the chain's NDCG@10 on validation; the test watches are not even looked at.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from urllib.parse import quote

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, Trial, TrialState
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from winnow.evaluation.simple_rivals import learn_rivals
from winnow.logs.split import LogSplit
from winnow.training.presets import TrainingSettings
from winnow.training.run_context import RunContext
from winnow.training.search_space import Value, search_space, values_of, with_values
from winnow.training.train_on_watches import train_on_watches

MEASURE = "ndcg_at_10"
# Trials that are completed before one may be pruned for being worse than their median.
UNPRUNED_TRIALS = 4
# Fewer completed trials say nothing about what mattered.
TRIALS_FOR_IMPORTANCES = 5


class OutOfTimeError(Exception):
    """The time of the search is up in the middle of a trial."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a search has found so far."""

    study: optuna.Study
    basis: TrainingSettings

    @property
    def completed(self) -> list[FrozenTrial]:
        """The trials that were trained to the end, the best first."""
        trials = self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        return sorted(trials, key=lambda trial: trial.values, reverse=True)

    @property
    def best(self) -> Mapping[str, Value]:
        """The settings of the best trial, by their full names; empty where no trial was completed."""
        return self.completed[0].params if self.completed else {}

    def importances(self) -> dict[str, float]:
        """Return what share each setting has in what made trials good, the largest first; empty after few trials."""
        if len(self.completed) < TRIALS_FOR_IMPORTANCES:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        return optuna.importance.get_param_importances(self.study, evaluator=evaluator)


def open_search(path: Path, basis: TrainingSettings, identity: str) -> Search:
    """Open the study in a SQLite file, or begin one. The first trial is of the settings of `basis`.

    Raises ValueError where the file holds no study, or one of other data or settings, which `identity` names.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        study = optuna.create_study(
            # Quoted: a path may have characters that mean something in a URL.
            storage=f"sqlite:///{quote(str(path))}",
            study_name="winnow",
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED_TRIALS, n_warmup_steps=1),
            load_if_exists=True,
        )
    except (SQLAlchemyError, StorageInternalError, RuntimeError) as error:
        # A RuntimeError is what another version of optuna has written.
        raise ValueError(f"{path} cannot be read as a search: remove it, or use another --directory") from error
    found = study.user_attrs.get("identity")
    if found is None:
        study.set_user_attr("identity", identity)
        study.enqueue_trial(dict(values_of(basis)))
    elif found != identity:
        raise ValueError(f"{path} is a search on other data or settings: use those, or another --directory")
    # A process that was killed has left its trial running.
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)
    study.sampler = optuna.samplers.TPESampler(seed=basis.seed + len(study.get_trials(deepcopy=False)))
    return Search(study=study, basis=basis)


class Objective:
    """Trains both networks with the settings of a trial and measures the chain on validation."""

    def __init__(self, split: LogSplit, item_count: int, basis: TrainingSettings, context: RunContext) -> None:
        """`context` is that of all trials, whose output is not shown."""
        # Without test watches nothing about them can be found out.
        self._split = replace(split, test=split.test.slice(0, 0))
        self._item_count = item_count
        self._basis = basis
        self._context = context
        self._rivals = learn_rivals(self._split, item_count, context.console)

    def __call__(self, trial: Trial, deadline: float) -> float:
        """Return the measure. Raises TrialPruned, and OutOfTimeError after the epoch in which the deadline passes.

        `deadline` is a time of time.monotonic().
        """
        settings = with_values(self._basis, trial.params)

        def after_epoch(network: str, epoch: int, figures: Mapping[str, float]) -> None:
            if time.monotonic() > deadline:
                raise OutOfTimeError
            # The figures of the ranking network depend on the epochs of the candidate network: they are not compared.
            if network == "candidate":
                trial.report(figures[MEASURE], epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned

        with tempfile.TemporaryDirectory() as checkpoints:
            context = replace(
                self._context,
                checkpoints=Path(checkpoints),
                console=Console(file=StringIO()),
                after_epoch=after_epoch,
            )
            trained = train_on_watches(self._split, self._item_count, (), settings, context, rivals=self._rivals)
        return trained.figures["validation"]["chain"][MEASURE]


def run_trials(
    search: Search,
    objective: Callable[[Trial, float], float],
    *,
    seconds: float,
    told: Callable[[FrozenTrial], None],
) -> None:
    """Run trials until the time is up; `told` hears of each one that was completed or pruned.

    A trial that is stopped, by the time or by an exception such as KeyboardInterrupt, counts as failed.
    """
    deadline = time.monotonic() + seconds
    ranges = search_space(search.basis)
    while time.monotonic() < deadline:
        trial = search.study.ask(dict(ranges))
        try:
            value = objective(trial, deadline)
        except optuna.TrialPruned:
            told(search.study.tell(trial, state=TrialState.PRUNED))
        except OutOfTimeError:
            search.study.tell(trial, state=TrialState.FAIL)
            return
        except BaseException:
            search.study.tell(trial, state=TrialState.FAIL)
            raise
        else:
            told(search.study.tell(trial, value))
