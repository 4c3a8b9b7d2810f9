"""Ids of answers, for joining them with what users did later."""

import random
import time
from collections.abc import Callable

from winnow.rpc.uuid7 import uuid7


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
        return uuid7(self._clock(), self._random_bits(62))
