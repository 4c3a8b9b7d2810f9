"""Settings of the candidate service."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from winnow.serving.settings import SETTINGS_CONFIG, Port, PositiveInt, StageSettings


class CandidateSettings(StageSettings):
    """Candidate service: watch histories -> the best items of the whole catalogue."""

    model_config = SettingsConfigDict(
        **SETTINGS_CONFIG, env_prefix="WINNOW_CANDIDATE_", cli_prog_name="candidate_service"
    )

    port: Port = 50051
    """Port to listen on. 0 lets the system choose one, which the log names."""
    max_candidates: PositiveInt = 2000
    """Most candidates that one query may ask for."""
    filter_cache_mebibytes: Annotated[int, Field(ge=64)] = 256
    """Memory for the filters of a release that were used last: 32 MiB at most for each, what it matches included."""
    live_recall_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of requests that are searched exactly as well, after the answer, to measure the recall of the index."""
    exact_search: bool = False
    """Scan all items, whatever index the release has. On a GPU this is always done."""
