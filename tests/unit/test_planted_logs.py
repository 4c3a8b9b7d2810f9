"""The generated logs are what they say: sparse, popular items first, with successions or without an order."""

from dataclasses import replace

import numpy as np
import polars as pl

from benchmarks.planted_logs import GAMES, PLAYS, REVIEWS, generate

ORDERED, UNORDERED = (replace(log, user_count=400, item_count=300, taste_count=10) for log in (REVIEWS, PLAYS))


def test_a_seed_names_a_log_and_nobody_has_an_item_twice() -> None:
    log = generate(ORDERED, seed=1)
    assert log.equals(generate(ORDERED, seed=1))
    assert not log.equals(generate(ORDERED, seed=2))
    assert not log.select("user_id", "item_id").is_duplicated().any()
    lengths = log.group_by("user_id").len()["len"]
    assert len(lengths) == ORDERED.user_count
    assert ORDERED.smallest_length <= lengths.mean() < 2 * ORDERED.mean_length  # type: ignore[operator]


def test_popularity_falls_and_successors_follow() -> None:
    log = generate(ORDERED, seed=1)
    counts = np.sort(log.group_by("item_id").len()["len"].to_numpy())[::-1]
    assert counts[:30].sum() > 3 * counts[150:180].sum()
    pairs = log.select(
        "user_id", before=pl.col("item_id"), after=pl.col("item_id").shift(-1).over("user_id")
    ).drop_nulls()
    often = pairs.group_by("before", "after").len()["len"].max()
    shuffled = pairs.with_columns(pl.col("after").shuffle(seed=1)).group_by("before", "after").len()["len"].max()
    assert isinstance(often, int)
    assert isinstance(shuffled, int)
    assert often > shuffled


def test_without_an_order_times_say_nothing_and_weights_are_hours() -> None:
    log = generate(UNORDERED, seed=1)
    assert log["timestamp"].n_unique() == 1
    assert log["weight"].n_unique() > len(log) / 2
    assert generate(ORDERED, seed=1)["timestamp"].n_unique() > len(log) / 2


def test_where_lengths_spread_a_few_users_have_most_of_the_events() -> None:
    shares = []
    for log in (GAMES, replace(GAMES, length_spread=0.0)):
        users = generate(replace(log, user_count=400, item_count=300, taste_count=10), seed=1).group_by("user_id").len()
        lengths = np.sort(users["len"].to_numpy())[::-1]
        shares.append(lengths[:40].sum() / lengths.sum())
    assert shares[0] > 0.45 > shares[1]
