"""`python -m ranking_service`."""

import sys

from ranking_service.service import RankingService
from ranking_service.settings import RankingSettings
from winnow.serving.server import run_service

if __name__ == "__main__":
    sys.exit(run_service(RankingService, RankingSettings.from_command_line(sys.argv[1:])))
