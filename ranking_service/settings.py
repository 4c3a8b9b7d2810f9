"""Settings of the ranking service."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from winnow.serving.settings import SETTINGS_CONFIG, Port, PositiveInt, StageSettings


class RankingSettings(StageSettings):
    """Ranking service: watch histories and candidates -> scores."""

    model_config = SettingsConfigDict(**SETTINGS_CONFIG, env_prefix="WINNOW_RANKING_", cli_prog_name="ranking_service")

    port: Port = 50052
    """Port to listen on. 0 lets the system choose one, which the log names."""
    max_candidates: PositiveInt = 2000
    """Most candidates that one query may carry."""
    item_table_mebibytes: Annotated[int, Field(ge=0)] = 512
    """Memory for the table of item halves of the first layer: float32 if that fits, else float16, else no table."""
    arithmetic: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the layers. `auto` is bfloat16 where it is faster and the manifest says that it keeps the order."""
