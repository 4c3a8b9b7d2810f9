"""Reads the part of a log that one process trains on. What all have to know of the log, they tell each other.

Shape legend: U users of the whole log, V users of this process.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from winnow.catalogue.vocabulary import Vocabulary
from winnow.history import Offsets
from winnow.logs.fingerprint import fingerprint
from winnow.logs.input_table import InputFileError
from winnow.logs.interactions import frequent_items, histories_of_parts, joined_ids, rows_kept
from winnow.logs.log_format import PLAIN_LOG, LogFormat
from winnow.logs.part_histories import PartHistories, check_different, check_different_rows, collected, in_order
from winnow.logs.parts import parts_of_users
from winnow.logs.watches import WatchTable, read_watches
from winnow.training.distributed.own_part import OwnPart
from winnow.training.distributed.processes import Processes

Result = TypeVar("Result")
# Of ids: so few users have the same one that these can be compared.
HASHES = 2**32


def read_own_part(
    path: Path,
    processes: Processes,
    *,
    vocabulary_size: int,
    min_item_count: int,
    log_format: LogFormat = PLAIN_LOG,
) -> OwnPart:
    """Read the parts of this process, and of no other, of a log in parts.

    Collective. All processes raise InputFileError, as `read_interactions` and `checked` do, where one of them cannot
    read its parts, where they do not find the same files, and where there are more processes than parts.
    """
    _check_same_files(path, processes)
    table = _agreed(lambda: read_watches(path, log_format, share=(processes.rank, processes.count)), processes)
    table = table.with_others(processes.gather_objects(table.rows), processes.gather_objects(table.item_counts))
    kept = frequent_items(table, vocabulary_size=vocabulary_size, min_item_count=min_item_count)
    item_ids, found_in = kept["item_id"], dict[int, str]()
    found = _agreed(lambda: collected(path, _fingerprinted(table, item_ids, found_in)), processes)
    users, lengths = _number_users(path, found, processes)
    _, histories = _agreed(lambda: in_order(found, users), processes)
    of_parts = {number: of_part for each in processes.gather_objects(found_in) for number, of_part in each.items()}
    return OwnPart.of(
        histories,
        np.sort(users),
        lengths,
        processes,
        source=str(path),
        vocabulary=Vocabulary(item_ids.to_list()),
        fingerprint=fingerprint(joined_ids(item_ids), *(of_parts[number].encode() for number in sorted(of_parts))),
        rows=rows_kept(table, kept),
    )


def _check_same_files(log: Path, processes: Processes) -> None:
    own = {str(file.relative_to(log)) for file in log.glob("part=*/*.parquet")}
    of_all = processes.gather_objects(own)
    missing = own.union(*of_all) - own.intersection(*of_all)
    if missing:
        raise InputFileError(
            f"{log / min(missing)} is not there for all processes: a log needs a file system that they share"
        )


def _agreed(compute: Callable[[], Result], processes: Processes) -> Result:
    """Return what `compute` returns here. Where it fails in a process, all raise the error of the first such one."""
    found, error = list[Result](), ""
    try:
        found.append(compute())
    except InputFileError as wrong:
        error = str(wrong)
    except OSError as wrong:
        error = f"{wrong.filename}: {wrong.strerror}"
    for of_process in processes.gather_objects(error):
        if of_process:
            raise InputFileError(of_process)
    return found[0]


def _fingerprinted(table: WatchTable, item_ids: pl.Series, found: dict[int, str]) -> Iterator[PartHistories]:
    """Read part after part; `found` is given the fingerprint of each, by its number."""
    for part, read in zip(table.parts, histories_of_parts(table, item_ids), strict=True):
        histories = read.histories
        columns = read.first_rows, histories.rows, histories.offsets, histories.timestamps, histories.weights
        found[part.number] = fingerprint(joined_ids(read.user_ids), *columns)
        yield read


def _number_users(path: Path, found: PartHistories, processes: Processes) -> tuple[NDArray[np.int64], Offsets]:
    """Number the users of all processes in the order in which they first appear in the log. Collective.

    Returns the numbers of the users here, int64 [V], and how many watches each user of the log has, int64 [U]. Raises
    InputFileError in all processes where a user is in the parts of two of them.
    """
    hashes = parts_of_users(found.user_ids, HASHES)
    columns = (found.first_rows, hashes, found.histories.lengths)
    gathered = [processes.gather(torch.tensor(column, device=processes.device)) for column in columns]
    first_rows_U, hashes_U, lengths_U = (torch.cat(of_all).cpu().numpy() for of_all in gathered)
    different, counts = np.unique(hashes_U, return_counts=True)
    alike = found.user_ids.filter(pl.Series(np.isin(hashes, different[counts > 1])))
    check_different(path, pl.concat(processes.gather_objects(alike)))
    check_different_rows(path, first_rows_U)
    order = np.argsort(first_rows_U)
    numbers_U = np.empty_like(order)
    numbers_U[order] = np.arange(len(order))
    begin = sum(map(len, gathered[0][: processes.rank]))
    return numbers_U[begin : begin + len(hashes)], lengths_U[order]
