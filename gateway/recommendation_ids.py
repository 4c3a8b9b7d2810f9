"""Ids of answers, for joining them with what users did later."""

import hashlib
import random
import time
from collections.abc import Callable

from winnow.rpc.uuid7 import uuid7

RANDOM_BITS = 62
# Of them, those that name the arm of an experiment.
MARK_BITS = 16
ARM_BITS = 4
_ID_CHARACTERS = 36


class RecommendationIds:
    """Makes ids that are unique over all gateways: UUIDs of version 7 (RFC 9562), whose text sorts by time.

    A UUID holds the time of the answer, to a quarter of a microsecond, and 62 random bits. The operating system seeds
    the generator once: an id costs no system call.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        """`clock` returns nanoseconds since 1970."""
        self._clock = clock
        self._random_bits = random.Random().getrandbits  # noqa: S311 - unique, not secret

    def next(self) -> str:
        """Return an id, for example 0199a7c4-53d1-7e0b-9a3f-2f6c81d40b57."""
        return uuid7(self._clock(), self._random_bits(RANDOM_BITS))

    def marked(self, mark: int) -> str:
        """Return an id whose first random bits are the mark of an arm."""
        rest = RANDOM_BITS - MARK_BITS
        return uuid7(self._clock(), mark << rest | self._random_bits(rest))


def arm_mark(salt: str, number: int) -> int:
    """Return the mark of an experiment's arm, from 0: 12 bits of the experiment, by which others' ids are told apart.

    An id of no experiment looks like one of an arm in one of 16,384 cases at most.
    """
    of_experiment = int.from_bytes(hashlib.blake2b(salt.encode(), digest_size=2).digest(), "big") >> ARM_BITS
    return of_experiment << ARM_BITS | number


def mark_of(recommendation_id: str) -> int:
    """Return where the mark of an arm is in an id; -1 for what is no UUID."""
    if len(recommendation_id) != _ID_CHARACTERS:
        return -1
    try:
        number = int(recommendation_id.replace("-", ""), 16)
    except ValueError:
        return -1
    return (number & (1 << RANDOM_BITS) - 1) >> RANDOM_BITS - MARK_BITS
