"""Settings of the gateway."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from winnow.serving.settings import SETTINGS_CONFIG, Port, PositiveInt, ServerSettings

MAX_LOOKED_UP_ITEMS = 1000
# Fields that are not repeated, and those of later versions.
OTHER_FIELDS = 100

Share = Annotated[float, Field(gt=0, lt=1)]


class GatewaySettings(ServerSettings):
    """Gateway: chains candidate generation and ranking for back-end services."""

    model_config = SettingsConfigDict(**SETTINGS_CONFIG, env_prefix="WINNOW_GATEWAY_", cli_prog_name="gateway")

    port: Port = 50050
    """Port to listen on; 0 lets the system choose, and the log says which."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes behind the one port, for more cores than one; metrics of the n-th are on `metrics_port` + n."""
    candidate_target: str = "localhost:50051"
    """gRPC target of the candidate service; a name with several addresses is balanced round robin."""
    ranking_target: str = "localhost:50052"
    """gRPC target of the ranking service; a name with several addresses is balanced round robin."""
    candidate_count: Annotated[int, Field(ge=100, le=1000)] = 200
    """How many candidates are retrieved and ranked for one recommendation."""
    max_history_items: PositiveInt = 1000
    """Longest watch history that a request may carry, and most items shown without a click."""
    max_excluded_items: PositiveInt = 1000
    """Most excluded ids that a request may carry."""
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
    """Retries of UNAVAILABLE stage calls, as a share of all stage calls: a budget, so that retries cannot pile up."""

    @property
    def shares_port(self) -> bool:
        """See ServerSettings.shares_port."""
        return self.workers > 1

    @property
    def max_message_fields(self) -> int:
        """See ServerSettings.max_message_fields: every id is a field, and a watch holds three more."""
        return (
            4 * self.max_history_items
            + self.max_history_items  # unclicked_item_ids
            + self.max_excluded_items
            + max(self.max_ranked_items, MAX_LOOKED_UP_ITEMS)
            + OTHER_FIELDS
        )
