"""Settings of the ranking service."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from winnow.serving.settings import SETTINGS_CONFIG, Port, PositiveInt, StageSettings


class RankingSettings(StageSettings):
    """Ranking service: watch histories and candidates -> scores."""

    model_config = SettingsConfigDict(**SETTINGS_CONFIG, env_prefix="WINNOW_RANKING_", cli_prog_name="ranking_service")

    port: Port = 50052
    """Port to listen on; 0 lets the system choose, and the log says which."""
    max_candidates: PositiveInt = 2000
    """Most candidates that one query may have scored."""
    item_table_mebibytes: Annotated[int, Field(ge=0)] = 2048
    """Memory for the items' half of the first layer, made at loading: float32 where it fits, else float16, else off."""
    arithmetic: Literal["float32", "bfloat16"] = "float32"
    """Of the layers above the first. bfloat16 is twice as fast on CPUs with AVX512-BF16 or AMX, and less exact."""
