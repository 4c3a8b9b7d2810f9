"""KuaiRand-Pure: the paper's Table 1, calibration of expected watch time, the value of each continuous feature."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from rich.console import Console

from ablations.runner import Cell, GridPlot, Study
from winnow.catalogue.item_facts import ItemFacts
from winnow.evaluation.impression_figures import figures_of_scores, impression_figures
from winnow.logs.datasets import kuairand
from winnow.logs.impression_log import ImpressionLog
from winnow.logs.interactions import read_interactions
from winnow.logs.items_file import read_item_facts
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.training.presets import KUAIRAND, ImpressionSettings, Objective, stated
from winnow.training.run_context import CPU, RunContext, choose_precision
from winnow.training.train_on_impressions import train_candidate_network, train_ranking_network

assert KUAIRAND.impressions is not None  # noqa: S101 - it is what the preset is for
BASE: ImpressionSettings = KUAIRAND.impressions
SEED = 1
# With how many seeds, from SEED on, each set-up is trained: large ones take minutes each and get one.
SEED_COUNTS = {"none": 2, "256": 2, "512": 2}
# Of the candidate network that all cells share.
CANDIDATE_CHECKPOINTS = Path("runs/ablations/kuairand")

# The paper's set-ups: width of the last hidden layer and number of layers; each layer is twice as wide as the next.
LAYERS = {
    "none": (256, 0),
    "256": (256, 1),
    "512": (512, 1),
    "1024": (1024, 1),
    "512-256": (256, 2),
    "1024-512": (512, 2),
    "1024-512-256": (256, 3),
}
FEW_LAYERS = ("256", "512-256")
# With the learning rate of the towers, the linear network is far from converged after its 600 steps.
LINEAR_LEARNING_RATE = 1e-2
# Each item gets this many impressions of average watch time on top, so that items with few are near average.
PRIOR_IMPRESSIONS = 10
OBJECTIVES: dict[Objective, str] = {
    "click": "unweighted",
    "watch_time": "weighted by watch time, calibrated",
    "watch_time_paper": "weighted by watch time, the paper's form",
}
TABLE_1_OBJECTIVES: tuple[Objective, ...] = ("click", "watch_time")
CALIBRATED: tuple[tuple[Objective, Sequence[str]], ...] = (
    ("watch_time", tuple(LAYERS)),
    ("watch_time_paper", ("256",)),
)
# Each adds to the ones before it.
FEATURES: dict[str, tuple[str, ...]] = {
    "embeddings only": (),
    "+ length and popularity of the item": ("duration_seconds", "popularity"),
    "+ score and similarity from the candidate network": ("candidate_score", "similarity"),
    "+ watches of the category": ("category_watches",),
    "+ impressions without a click": ("item_unclicked", "author_unclicked", "category_unclicked"),
    "+ watches of the author": ("author_watches",),
    "+ time since such watches, age of the item": (
        "seconds_since_author_watch",
        "seconds_since_category_watch",
        "item_age_seconds",
    ),
}

ORDER_HEADINGS = {
    "validation_weighted_per_user_loss": "weighted per-user loss, validation",
    "test_weighted_per_user_loss": "weighted per-user loss, test",
    "test_weighted_per_user_loss_range": "range over seeds",
    "validation_auc_by_user": "AUC by user, validation",
    "test_auc_by_user": "AUC by user, test",
}
CALIBRATION_HEADINGS = {
    "validation_expected_over_actual": "expected over actual, validation",
    "test_expected_over_actual": "expected over actual, test",
    "validation_worst_inner_decile": "worst inner decile, validation",
    "test_worst_inner_decile": "worst inner decile, test",
    **{f"test_expected_over_actual_decile_{number}": f"decile {number}" for number in range(1, 11)},
}


@dataclass(frozen=True, kw_only=True, eq=False)
class RankingLog:
    """A log of impressions on which ranking networks are trained, above one shared candidate network."""

    log: ImpressionLog
    facts: ItemFacts
    console: Console
    checkpoints: Path = CANDIDATE_CHECKPOINTS

    @cached_property
    def candidate_network(self) -> DeepCandidateGenerationModel:
        """The candidate network that all cells share."""
        context = self._context(self.checkpoints, KUAIRAND.seed)
        network, _ = train_candidate_network(self.log, [], KUAIRAND.candidate, context)
        return network

    def _context(self, checkpoints: Path, seed: int) -> RunContext:
        return RunContext(
            seed=seed,
            data=self.log.fingerprint,
            checkpoints=checkpoints,
            console=self.console,
            resume=True,
            precision=choose_precision(KUAIRAND.precision, CPU),
        )

    def cell(self, name: str, labels: Mapping[str, str], settings: ImpressionSettings, *, seed_count: int = 1) -> Cell:
        """Return the cell that trains a network with these settings, once per seed."""
        seeds = [SEED + number for number in range(seed_count)]
        inputs = {
            "data_sha256": self.log.fingerprint,
            "seeds": seeds,
            "candidate": stated(KUAIRAND.candidate),
            "impressions": stated(settings),
        }
        return Cell(name=name, labels=labels, settings=inputs, measure=self._measure(settings, seeds))

    def item_cell(self) -> Cell:
        """Return the cell without a network: an item scores its mean watch time over the training impressions."""

        def measure(scratch: Path) -> Mapping[str, float]:
            split = self.log.impressions
            training = split.training
            mean_seconds = training.watch_seconds.mean()
            counts_I, seconds_I = (
                np.bincount(training.rows, weights, minlength=len(self.log.popularity))
                for weights in (None, training.watch_seconds)
            )
            scores_I = (seconds_I + PRIOR_IMPRESSIONS * mean_seconds) / (counts_I + PRIOR_IMPRESSIONS)
            return {
                f"{part}_{name}": value
                for part, impressions in split.held_out.items()
                for name, value in figures_of_scores(scores_I[impressions.rows], impressions, in_seconds=True).items()
            } | {f"{part}_weighted_per_user_loss_range": 0.0 for part in ("validation", "test")}

        return Cell(
            name="item-mean",
            labels={"hidden layers": "no network", "logistic regression": "the item's mean watch time"},
            settings={
                "data_sha256": self.log.fingerprint,
                "prior_impressions": PRIOR_IMPRESSIONS,
            },
            measure=measure,
        )

    def _measure(self, settings: ImpressionSettings, seeds: Sequence[int]) -> Callable[[Path], Mapping[str, float]]:
        def measure(scratch: Path) -> Mapping[str, float]:
            found = [self._figures(settings, seed, scratch / str(seed)) for seed in seeds]
            means = {name: float(np.mean([figures[name] for figures in found])) for name in found[0]}
            ranges = {
                f"{name}_range": float(np.ptp([figures[name] for figures in found]))
                for name in found[0]
                if name.endswith("weighted_per_user_loss")
            }
            return means | ranges

        return measure

    def _figures(self, settings: ImpressionSettings, seed: int, checkpoints: Path) -> dict[str, float]:
        candidate = self._context(self.checkpoints, KUAIRAND.seed).identity(KUAIRAND.candidate)
        context = self._context(checkpoints, seed).also_from(candidate)
        network, _ = train_ranking_network(self.log, self.facts, self.candidate_network, settings, context)
        return {
            f"{part}_{name}": value
            for part, impressions in self.log.impressions.held_out.items()
            for name, value in impression_figures(network, impressions).items()
        }


def studies(data: Path, *, epochs: int, console: Console) -> list[Study]:
    """Return the studies of the data set in `data`; if it is missing, print so and return none.

    `epochs` is ignored: epochs on impressions take seconds, so every cell runs the preset's number.
    """
    data_set = kuairand.data_set_in(data)
    if not data_set.complete:
        console.print(
            f"KuaiRand-Pure is skipped: it is not in {data_set.directory}. To convert a local copy: "
            "winnow data kuairand-pure --from FOLDER",
            soft_wrap=True,
        )
        return []
    interactions = read_interactions(
        data_set.interactions, vocabulary_size=KUAIRAND.vocabulary_size, min_item_count=KUAIRAND.min_item_count
    )
    log = ImpressionLog.read(
        data_set.impressions, interactions, validation_share=BASE.validation_share, test_share=BASE.test_share
    )
    facts = read_item_facts(data_set.items, interactions.vocabulary, log.popularity)
    ranking = RankingLog(log=log, facts=facts, console=console)
    return [table_1(ranking), calibration(ranking), features(ranking)]


def _of_layers(layers: str, objective: Objective) -> ImpressionSettings:
    width, depth = LAYERS[layers]
    rate = BASE.learning_rate if depth else LINEAR_LEARNING_RATE
    return replace(BASE, hidden_dim=width, n_hidden_layers=depth, objective=objective, learning_rate=rate)


def _layers_cell(ranking: RankingLog, layers: str, objective: Objective) -> Cell:
    return ranking.cell(
        f"{layers}-{objective}",
        {"hidden layers": layers, "logistic regression": OBJECTIVES[objective]},
        _of_layers(layers, objective),
        seed_count=SEED_COUNTS.get(layers, 1),
    )


def table_1(ranking: RankingLog) -> Study:
    """Return the study of the paper's seven set-ups, weighted and unweighted."""
    cells = [_layers_cell(ranking, layers, objective) for layers in LAYERS for objective in TABLE_1_OBJECTIVES]
    cells.append(ranking.item_cell())
    return Study(
        name="kuairand-table-1",
        title="KuaiRand-Pure: the paper's Table 1",
        about="""
Ranking on impressions, split by time: the first 65 % are trained on, the next 15 % are validation, the last 20 % test.
Weighted per-user loss is taken over all pairs of a clicked and an unclicked impression of one user: the share of watch
time that is in wrongly ordered pairs. Set-ups up to 512 are means over two seeds; the larger towers have one seed, so
their range is zero.
""",
        figures=ORDER_HEADINGS,
        cells=cells,
        plots=[GridPlot(across="hidden layers", lines="logistic regression", figure="test_weighted_per_user_loss")],
    )


def calibration(ranking: RankingLog) -> Study:
    """Return the study of how well weighted set-ups are calibrated, some of them in the paper's form too."""
    cells = [_layers_cell(ranking, layers, objective) for objective, chosen in CALIBRATED for layers in chosen]
    cells.append(ranking.item_cell())
    return Study(
        name="kuairand-calibration",
        title="KuaiRand-Pure: expected over actual watch time",
        about="""
Expected watch time divided by actual watch time: over all impressions and, on test, by decile of the expectation, where
decile 1 is the lowest. "Worst inner decile" is the largest relative error in deciles 2 to 9. A factor and an offset of
the logit are fitted on validation; nothing is fitted on test.
""",
        figures=CALIBRATION_HEADINGS,
        cells=cells,
    )


def features(ranking: RankingLog) -> Study:
    """Return the study of every set of continuous features below some of the towers."""
    names = list(FEATURES)
    cells = [
        ranking.cell(
            f"{number}-{layers}",
            {"features": name, "hidden layers": layers},
            replace(
                _of_layers(layers, "watch_time"),
                features=tuple(feature for added in names[: number + 1] for feature in FEATURES[added]),
            ),
        )
        for layers in FEW_LAYERS
        for number, name in enumerate(names)
    ]
    return Study(
        name="kuairand-features-and-depth",
        title="KuaiRand-Pure: continuous features and depth",
        about=f"""
Each row adds to the one above it. Weighted by watch time, calibrated, seed {SEED}. The ranges over seeds in the Table 1
section show which differences are meaningful.
""",
        figures={
            name: heading
            for name, heading in {**ORDER_HEADINGS, **CALIBRATION_HEADINGS}.items()
            if "range" not in name and "decile_" not in name
        },
        cells=cells,
        plots=[
            GridPlot(across="hidden layers", lines="features", figure=f"{part}_weighted_per_user_loss")
            for part in ("validation", "test")
        ],
    )
