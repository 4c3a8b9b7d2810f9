"""Settings of the gateway."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import SettingsConfigDict

from winnow.serving.settings import SETTINGS_CONFIG, Port, PositiveInt, PositiveSeconds, ServerSettings

MAX_LOOKED_UP_ITEMS = 1000
MAX_WRITTEN_EVENTS = 1000
# Of each kind, of one user: the scripts of the Redis store handle as many.
MAX_STORED_EVENTS = 2000
# A tag and a length, of up to 512.
FRAMING_BYTES_PER_ID = 3
# Those of the watch and of its id, a weight with its tag, a time of up to ten bytes with its tag.
FRAMING_BYTES_PER_WATCH = 22
# Those of the event and of its four ids, a kind, a time and a weight with their tags.
FRAMING_BYTES_PER_EVENT = 32
# Caps and pinned items: at most 110 messages, each with three tags, three lengths and a number of up to ten bytes.
SELECTION_FRAMING_BYTES = 110 * 20
# Fields that are not repeated, and those of later versions.
OTHER_FRAMING_BYTES = 1_000

# Of sources that are not external, and of stages: names in answers and in metrics.
RESERVED_SOURCE_NAMES = frozenset({"network", "popular", "trending", "fresh", "caller", "candidate", "ranking"})
# As many as a query to the ranking service may carry by default.
MAX_CANDIDATES_TO_RANK = 2_000

Share = Annotated[float, Field(gt=0, lt=1)]
Quota = Annotated[int, Field(ge=0, le=500)]


class ExternalSourceSettings(BaseModel):
    """A server of the operator's that proposes candidates: see protos/winnow/v1/source.proto."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
    """What answers and metrics call it."""
    target: Annotated[str, Field(min_length=1)]
    """Its gRPC target; each address of a name is taken for a replica. TLS is as for the stages."""
    candidate_count: Annotated[int, Field(ge=1, le=500)] = 100
    """How many candidates are taken from it."""
    timeout_seconds: PositiveSeconds = 0.05
    """How long a batch of requests waits for it, at most."""
    history_count: Annotated[int, Field(ge=0, le=1000)] = 100
    """How many of the latest watches it is told of."""


class GatewaySettings(ServerSettings):
    """Gateway: chains candidate generation and ranking for back-end services."""

    model_config = SettingsConfigDict(**SETTINGS_CONFIG, env_prefix="WINNOW_GATEWAY_", cli_prog_name="gateway")

    port: Port = 50050
    """Port to listen on. 0 lets the system choose one, which the log names."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes behind the one port, for more cores than one; metrics of the n-th are on `metrics_port` + n."""
    candidate_target: str = "localhost:50051"
    """gRPC target of the candidate service; each address of a name is taken for a replica."""
    ranking_target: str = "localhost:50052"
    """gRPC target of the ranking service; each address of a name is taken for a replica."""
    stage_wait_seconds: Annotated[float, Field(ge=0, le=600)] = 5.0
    """How long a starting gateway waits for its stages; then it says that it serves, and its answers are degraded."""
    stage_lookup_seconds: PositiveSeconds = 5.0
    """How often the names in the targets are looked up: new replicas are found this way."""
    candidate_count: Annotated[int, Field(ge=100, le=1000)] = 200
    """How many candidates are retrieved and ranked for one recommendation."""
    trending_count: Quota = 0
    """How many items that were watched more of late than usual are ranked too."""
    fresh_count: Quota = 0
    """How many of the newest items are ranked too."""
    fresh_attribute: str | None = None
    """The attribute, a timestamp, that says how new an item is."""
    external_sources: tuple[ExternalSourceSettings, ...] = ()
    """Servers that propose items to rank too, JSON: name, target, candidate_count, timeout_seconds, history_count."""
    max_history_items: PositiveInt = 1000
    """Longest watch history that a request may carry, and most items shown without a click."""
    max_excluded_items: PositiveInt = 1000
    """Most excluded ids that a request may carry."""
    max_allowed_items: Annotated[int, Field(ge=1, le=10_000)] = 10_000
    """Most allowed ids that a request may carry."""
    max_candidate_items: Annotated[int, Field(ge=1, le=1000)] = 1000
    """Most candidate ids that a request may carry."""
    filter_cache_mebibytes: PositiveInt = 64
    """Memory for the filters of a release that were used last. A filter takes a bit for each item."""
    default_caps: dict[str, PositiveInt] = Field(default={}, max_length=10)
    """Most items of an answer with the same value of an attribute, where the request has no caps: `genres=3`."""
    default_diversity: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How much the items of an answer should differ, from 0 to 1, where the request does not say."""
    max_ranked_items: Annotated[int, Field(ge=1, le=2000)] = 1000
    """Most ids that one RankItems request may carry."""
    candidate_timeout_share: Share = 0.5
    """Part of the time left that candidate generation may take; ranking may take what is left after it."""
    reserve_seconds: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Kept back, at least, from the stages' time for the answer itself."""
    reserve_share: Share = 0.05
    """Part of the time left that is kept back, where that is more: on a busy machine even an answer takes a while."""
    max_batch_queries: Annotated[int, Field(ge=1, le=256)] = 64
    """Most queries that one call to a stage carries."""
    max_batches_in_flight: PositiveInt = 8
    """Most batches of requests in flight at once. There are that many only where stages are slow or hang."""
    max_queued_queries: PositiveInt = 1024
    """Most queries that wait for a stage; beyond that a request is rejected with RESOURCE_EXHAUSTED."""
    max_queued_searches: PositiveInt = 64
    """Most searches by title that wait for their turn; two run at once."""
    users_store: str = ""
    """Where users' histories are kept: the path of an SQLite file, or a `redis://` URL; empty for nowhere."""
    users_max_events: Annotated[int, Field(ge=1, le=MAX_STORED_EVENTS)] = 1000
    """How many events of each kind (watch, click, impression, dismissal) are kept for a user: the latest ones."""
    users_retention_days: Annotated[float, Field(ge=0, le=36_500)] = 0.0
    """For how long a user is kept after the last event was written; 0 keeps users for ever."""
    users_timeout_seconds: PositiveSeconds = 0.1
    """How long a request waits for a stored history, at most; then its answer is degraded."""
    answer_log: Path | None = None
    """Directory of the log of answers to requests with a user id. `DeleteUser` is noted there, whatever the share."""
    answer_log_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Part of these answers that is logged."""
    answer_log_file_mebibytes: PositiveInt = 64
    """Size at which a gateway begins another file of the answer log; it also does so after a day."""
    stage_ca_file: Path | None = None
    """PEM certificates of the authorities that sign the stages' certificates; TLS to the stages is on if set."""
    stage_certificate_file: Path | None = None
    """PEM certificate that the gateway shows to the stages (mutual TLS)."""
    stage_key_file: Path | None = None
    """PEM private key of that certificate."""
    tokens_file: Path | None = None
    """A bearer token a line, perhaps with what it permits; if set, every call needs one. Read again when it changes."""
    retry_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Second tries of stage calls that failed or are overdue, as a share of all stage calls: a budget."""

    @model_validator(mode="after")
    def _check_answer_log(self) -> Self:
        if self.answer_log_share and self.answer_log is None:
            raise ValueError("answer_log_share needs an answer_log")
        if self.answer_log is not None and not self.users_store:
            raise ValueError("answer_log needs a users_store: only answers to requests with a user id are logged")
        return self

    @model_validator(mode="after")
    def _check_sources(self) -> Self:
        if self.fresh_count and self.fresh_attribute is None:
            raise ValueError("fresh_count needs a fresh_attribute")
        names = [source.name for source in self.external_sources]
        for name in names:
            if name in RESERVED_SOURCE_NAMES or names.count(name) > 1:
                raise ValueError(f"external_sources: the name {name} is taken: each source needs one of its own")
        quotas = (
            self.candidate_count,
            self.trending_count,
            self.fresh_count,
            self.max_candidate_items,
            *(source.candidate_count for source in self.external_sources),
        )
        if sum(quotas) > MAX_CANDIDATES_TO_RANK:
            raise ValueError(
                f"a request could have {sum(quotas)} candidates, more than {MAX_CANDIDATES_TO_RANK}: candidate_count, "
                "trending_count, fresh_count, max_candidate_items and those of external_sources together"
            )
        return self

    @property
    def shares_port(self) -> bool:
        """See ServerSettings.shares_port."""
        return self.workers > 1

    @property
    def max_framing_bytes(self) -> int:
        """See ServerSettings.max_framing_bytes: a request that has the most of everything takes as many."""
        id_count = (
            self.max_history_items  # unclicked_item_ids
            + self.max_excluded_items
            + self.max_allowed_items
            + self.max_candidate_items
            + max(self.max_ranked_items, MAX_LOOKED_UP_ITEMS)
        )
        recommending = (
            FRAMING_BYTES_PER_WATCH * self.max_history_items + FRAMING_BYTES_PER_ID * id_count + SELECTION_FRAMING_BYTES
        )
        return max(recommending, FRAMING_BYTES_PER_EVENT * MAX_WRITTEN_EVENTS) + OTHER_FRAMING_BYTES
