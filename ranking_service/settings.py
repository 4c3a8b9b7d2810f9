"""Settings of the ranking service."""

from pydantic_settings import SettingsConfigDict

from winnow.serving.settings import SETTINGS_CONFIG, Port, PositiveInt, StageSettings


class RankingSettings(StageSettings):
    """Ranking service: watch histories and candidates -> scores."""

    model_config = SettingsConfigDict(**SETTINGS_CONFIG, env_prefix="WINNOW_RANKING_", cli_prog_name="ranking_service")

    port: Port = 50052
    """Port to listen on; 0 lets the system choose, and the log says which."""
    max_candidates: PositiveInt = 2000
    """Most candidates that one query may have scored."""
