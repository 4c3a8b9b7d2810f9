"""In which order watches come that a user has at the same moment."""

import hashlib

import polars as pl

HASH_BYTES = 8


def tie_hashes(watches: pl.DataFrame) -> pl.Series:
    """Return a hash of each watch of user_id, item_id and microseconds, uint64; 0 where its user has no other then.

    The user is part of the hash: with that of the item alone, one item would always come before another, and networks
    could learn it.
    """
    tied = watches.select(pl.struct("user_id", "microseconds").is_duplicated()).to_series()
    texts = watches.filter(tied).select(pl.concat_str("user_id", "item_id", "microseconds", separator="\0")).to_series()
    hashes = pl.Series([_hash(text) for text in texts], dtype=pl.UInt64)
    found = pl.zeros(watches.height, dtype=pl.UInt64, eager=True)
    return found.scatter(tied.arg_true(), hashes).alias("tie_hash")


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=HASH_BYTES).digest(), "big")
