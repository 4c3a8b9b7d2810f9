"""Settings of the gateway."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from winnow.serving.settings import SETTINGS_CONFIG, Port, PositiveInt, PositiveSeconds, ServerSettings

MAX_LOOKED_UP_ITEMS = 1000
# A tag and a length, of up to 512.
FRAMING_BYTES_PER_ID = 3
# Those of the watch and of its id, a weight with its tag, a time of up to ten bytes with its tag.
FRAMING_BYTES_PER_WATCH = 22
# Fields that are not repeated, and those of later versions.
OTHER_FRAMING_BYTES = 1_000

Share = Annotated[float, Field(gt=0, lt=1)]


class GatewaySettings(ServerSettings):
    """Gateway: chains candidate generation and ranking for back-end services."""

    model_config = SettingsConfigDict(**SETTINGS_CONFIG, env_prefix="WINNOW_GATEWAY_", cli_prog_name="gateway")

    port: Port = 50050
    """Port to listen on; 0 lets the system choose, and the log says which."""
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
    max_history_items: PositiveInt = 1000
    """Longest watch history that a request may carry, and most items shown without a click."""
    max_excluded_items: PositiveInt = 1000
    """Most excluded ids that a request may carry."""
    max_allowed_items: Annotated[int, Field(ge=1, le=10_000)] = 10_000
    """Most allowed ids that a request may carry."""
    filter_cache_mebibytes: PositiveInt = 64
    """Memory for the filters of a release that were used last. A filter takes a bit for each item."""
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
    stage_ca_file: Path | None = None
    """PEM certificates of the authorities that sign the stages' certificates; TLS to the stages is on if set."""
    stage_certificate_file: Path | None = None
    """PEM certificate that the gateway shows to the stages (mutual TLS)."""
    stage_key_file: Path | None = None
    """PEM private key of that certificate."""
    tokens_file: Path | None = None
    """File with one bearer token a line; if set, every call needs one of them. Read again when it changes."""
    retry_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Second tries of stage calls that failed or are overdue, as a share of all stage calls: a budget."""

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
            + max(self.max_ranked_items, MAX_LOOKED_UP_ITEMS)
        )
        return FRAMING_BYTES_PER_WATCH * self.max_history_items + FRAMING_BYTES_PER_ID * id_count + OTHER_FRAMING_BYTES
