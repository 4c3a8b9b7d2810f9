"""Settings of the candidate service."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
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
    engine: Literal["none", "milvus"] = "none"
    """`milvus` (extra `milvus`) to search in Milvus, which `winnow publish` fills; `none` to search in the process."""
    engine_address: str = "http://localhost:19530"
    """Where Milvus is: `http://host:port`, or `https://host:port` for TLS."""
    engine_database: str = "default"
    """The database of Milvus that has the collections."""
    engine_token_file: Path | None = None
    """File with `user:password` or an API key for Milvus."""
    engine_ca_file: Path | None = None
    """PEM certificates of the authorities that sign Milvus's certificate; unset for those of the system."""

    @model_validator(mode="after")
    def _check_engine(self) -> Self:
        if self.engine != "none" and (self.exact_search or self.live_recall_share):
            raise ValueError(
                "with --engine, the service has no item vectors: --exact-search and --live-recall-share need them"
            )
        return self
