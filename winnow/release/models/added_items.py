"""The rows of the networks' tables for items that were added after the training, made from their attributes.

Shape legend: N added items, T trained items, I all items of the earlier release, K neighbours of an item.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from winnow.catalogue.attribute_codes import AttributeCodes, ItemCodes
from winnow.catalogue.attributes import Attributes
from winnow.catalogue.item_facts import NO_GROUP, NO_VALUE, UNKNOWN_DURATION
from winnow.catalogue.text_columns import TextColumn, TextListColumn
from winnow.catalogue.value_columns import MISSING_TIMESTAMP, NumberColumn, TimestampColumn
from winnow.history import UNKNOWN_TIME
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.neighbours import NeighbourTables
from winnow.networks.ranking import DeepRankingModel

MICROSECONDS_PER_SECOND = 1_000_000


@torch.no_grad()
def candidate_rows(
    network: DeepCandidateGenerationModel, codes: ItemCodes, attributes: Attributes, rows: NDArray[np.int64]
) -> dict[str, Tensor]:
    """Return the candidate network's rows of added items [N], by the name of the table.

    Raises ValueError where the network has not learned to do without an item's own part, or an attribute is missing.
    """
    if network.parts is None:
        raise ValueError("the candidate network was trained without --new-items-by: it has no vectors for new items")
    values = [_codes(code, attributes, rows) for code in codes.parts]
    found = {"embedding.weight": network.parts.embedding(values)}
    if network.parts.output is not None:
        found["output.weight"] = network.parts.output(values)
    if network.attributes is not None:
        for number, code in enumerate(codes.watched):
            table_NP = _codes(code, attributes, rows)
            # As many values as any trained item had; further ones of an added item do not fit.
            width = network.attributes.get_buffer(f"values_{number}").shape[1]
            padded_NP = F.pad(table_NP[:, :width], (0, max(0, width - table_NP.shape[1])), value=NO_VALUE)
            found[f"attributes.values_{number}"] = padded_NP
    found |= _without_neighbours("neighbours", network.neighbours, len(rows))
    return {name: tensor.contiguous() for name, tensor in found.items()}


@torch.no_grad()
def ranking_rows(
    network: DeepRankingModel,
    of_candidate: dict[str, Tensor],
    attributes: Attributes,
    rows: NDArray[np.int64],
    trained_count: int,
) -> dict[str, Tensor]:
    """Return the ranking network's rows of added items [N], by the name of the table.

    `of_candidate` is what `candidate_rows` returned. The ranking network's embeddings began as copies of the candidate
    network's, and so does an added item's, moved as far as the trained ones have moved on average. A network without
    matching has learned embeddings by itself: there, an added item has the average one.
    """
    own_mean = network.embedding.weight[:trained_count].mean(dim=0)
    if network.matching is None:
        found = {"embedding.weight": own_mean.expand(len(rows), -1).contiguous()}
    else:
        drift = own_mean - network.matching.network.embedding.weight[:trained_count].mean(dim=0)
        found = {"embedding.weight": of_candidate["embedding.weight"] + drift}
        inside = network.matching.network.state_dict()
        found |= {f"matching.network.{name}": rows for name, rows in of_candidate.items() if name in inside}
        successions = network.matching.successions
        if successions is not None:
            # Nothing was ever seen to follow them. Their popularity is unknown, not low.
            found["matching.successions.unseen_lifts"] = torch.zeros(len(rows))
            average = successions.log_popularity[:trained_count].mean()
            found["matching.successions.log_popularity"] = average.expand(len(rows)).contiguous()
        found |= _without_neighbours("matching.neighbours", network.matching.neighbours, len(rows))
    if network.features is not None:
        items = network.features.items
        facts = {
            "authors": _groups("author", items.authors.numpy()[:trained_count], attributes, rows),
            "categories": _groups("category", items.categories.numpy()[:trained_count], attributes, rows),
            "uploaded": _uploaded(attributes, rows),
            "durations": _durations(attributes, rows),
            # As of the items that nobody had watched yet when the network was trained.
            "popularity": np.zeros(len(rows), dtype=np.float32),
        }
        found |= {f"features.items.{name}": torch.from_numpy(values) for name, values in facts.items()}
    return found


def _without_neighbours(prefix: str, tables: NeighbourTables, count: int) -> dict[str, Tensor]:
    """Rows of tables for items that have no neighbours yet: these are counted in the log."""
    return {
        f"{prefix}.{number}.{name}": table_IK.new_zeros(count, table_IK.shape[1])
        for number, table in enumerate(tables.tables)
        for name, table_IK in (("rows", table.rows), ("values", table.values))
    }


def _codes(code: AttributeCodes, attributes: Attributes, rows: NDArray[np.int64]) -> Tensor:
    if code.name not in attributes:
        raise ValueError(f"the networks read the attribute {code.name}, which the release does not have")
    return torch.from_numpy(code.encode(attributes, rows))


def _groups(
    name: str, groups_T: NDArray[np.int32], attributes: Attributes, rows: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Give each added item the number of a trained one with the same value; a new value gets a new number."""
    found = np.full(len(rows), NO_GROUP, dtype=np.int32)
    if name not in attributes or isinstance(attributes[name], TextListColumn):
        return found
    keys = _keys(attributes[name])
    # Also of trained items that have been given the value since then: their number is that of the old one.
    numbers: dict[Any, int] = {}
    free = int(groups_T.max(initial=NO_GROUP)) + 1
    for position, row in enumerate(rows.tolist()):
        if attributes[name][row] is None:
            continue
        key = keys[row].item()
        if key not in numbers:
            same = groups_T[np.flatnonzero(keys[: len(groups_T)] == key)]
            same = same[same != NO_GROUP]
            numbers[key] = int(np.bincount(same).argmax()) if len(same) else free
            free += not len(same)
        found[position] = numbers[key]
    return found


def _keys(column: Any) -> NDArray[Any]:
    """What is equal for two rows with the same value."""
    keys: NDArray[Any] = column.codes_plus_one if isinstance(column, TextColumn) else column.values
    return keys


def _uploaded(attributes: Attributes, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Seconds since 1970."""
    column = attributes.get("uploaded")
    if isinstance(column, TimestampColumn):
        moments = column.values[rows]
        return np.where(moments == MISSING_TIMESTAMP, UNKNOWN_TIME, moments // MICROSECONDS_PER_SECOND)
    if isinstance(column, NumberColumn):
        seconds = column.values[rows]
        return np.where(np.isnan(seconds), UNKNOWN_TIME, np.nan_to_num(seconds)).astype(np.int64)
    return np.full(len(rows), UNKNOWN_TIME)


def _durations(attributes: Attributes, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    column = attributes.get("duration_seconds")
    if not isinstance(column, NumberColumn):
        return np.full(len(rows), UNKNOWN_DURATION)
    seconds = column.values[rows]
    return np.where(np.isnan(seconds), UNKNOWN_DURATION, seconds).astype(np.float32)
