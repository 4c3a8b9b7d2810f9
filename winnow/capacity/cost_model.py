"""What a request costs each service, as measured: `python -m benchmarks.capacity` writes such a file."""

import math
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

PositiveNumber = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# What takes longer would be simulated for ever.
Seconds = Annotated[float, Field(ge=0, le=1000)]
PositiveSeconds = Annotated[float, Field(gt=0, le=1000)]
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
SHIPPED_FILE = "cost_model.json"


class ServiceCost(BaseModel):
    """CPU time and memory of a replica, which is one process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds_per_call: Seconds
    """CPU time of a batch, whatever it carries."""
    seconds_per_query: PositiveSeconds
    """CPU time of each request in a batch, on top of that."""
    base_bytes: PositiveNumber
    """Memory without a catalogue."""
    bytes_per_item: Number
    """Memory of one release, for each item."""

    def seconds(self, batch_queries: float) -> float:
        """CPU time of a batch."""
        return self.seconds_per_call + batch_queries * self.seconds_per_query

    def memory_bytes(self, item_count: float, release_count: int = 2) -> float:
        """Memory of a replica; two releases are held during a swap."""
        return self.base_bytes + release_count * item_count * self.bytes_per_item

    def most_items(self, memory_bytes: float, release_count: int = 2) -> float:
        """The catalogue whose replica takes so much memory; 0 where even an empty one takes more."""
        room = max(memory_bytes - self.base_bytes, 0.0)
        return room / (release_count * self.bytes_per_item) if self.bytes_per_item else math.inf


class SearchCost(BaseModel):
    """One measured size of the index."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    item_count: PositiveNumber
    seconds: PositiveSeconds
    """CPU time of one query."""


class NetworkCost(BaseModel):
    """Bytes of one request's share of each message."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request: PositiveNumber
    answer: PositiveNumber
    retrieve_request: PositiveNumber
    retrieve_answer: PositiveNumber
    rank_request: PositiveNumber
    rank_answer: PositiveNumber


class CostModel(BaseModel):
    """What `winnow plan` computes with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    measured: str
    """On what machine, with which networks and by which command."""
    item_count: PositiveNumber
    """The catalogue that the candidate service's time was measured with."""
    gateway: ServiceCost
    candidate: ServiceCost
    ranking: ServiceCost
    search: Annotated[tuple[SearchCost, ...], Field(min_length=2)]
    """By size, ascending."""
    vector_bytes_per_item: PositiveNumber
    """Memory of the index and its vectors: what can be moved to shards of an engine."""
    network: NetworkCost
    path_share: Annotated[float, Field(ge=0.001, le=1)]
    """Part of a process's CPU time that the request waits for; the rest follows its answer."""
    hop_seconds: Seconds
    """Time of a message beside CPU time."""
    jitter: Annotated[float, Field(ge=0, le=10)]
    """How much the time of the same work varies: the standard deviation of its logarithm."""
    jitter_seconds: Seconds
    """How long a process is as quick as it happens to be; 0 where each piece of work varies by itself."""
    wake_seconds: Seconds
    """CPU time of waking a process that has nothing to do, beside the work that wakes it."""
    busy_speed: Annotated[float, Field(ge=0.001, le=1)]
    """Speed of a core while all cores of the machine are busy, relative to one that is busy alone."""
    client_seconds: Seconds
    """CPU time of a request in the load client, where it shares the machine."""

    @field_validator("search")
    @classmethod
    def _ascending(cls, search: tuple[SearchCost, ...]) -> tuple[SearchCost, ...]:
        for before, after in pairwise(search):
            if after.item_count <= before.item_count:
                raise ValueError(f"the sizes do not ascend: {after.item_count:g} comes after {before.item_count:g}")
        return search

    def search_seconds(self, item_count: float) -> float:
        """Time of one query over so many items: between measured sizes, and beyond them, a line in logarithms."""
        points = [(math.log(each.item_count), math.log(each.seconds)) for each in self.search]
        at = math.log(item_count)
        (x0, y0), (x1, y1) = next((pair for pair in pairwise(points) if at <= pair[1][0]), (points[-2], points[-1]))
        return math.exp(y0 + (y1 - y0) * (at - x0) / (x1 - x0))


def read_cost_model(path: Path | None = None) -> CostModel:
    """Read a file, or the one that is shipped. Raises ValueError that names the field, OSError."""
    text = (files("winnow.capacity") / SHIPPED_FILE).read_bytes() if path is None else path.read_bytes()
    try:
        return CostModel.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise ValueError(f"{path or SHIPPED_FILE}: {where}: {first['msg']}") from error
