"""`python -m ranking_service`."""

import sys

from winnow.distribution import missing_extras_named


def main() -> int:
    """Run the service and return its exit status."""
    from ranking_service.service import RankingService
    from ranking_service.settings import RankingSettings
    from winnow.serving.server import run_service

    return run_service(RankingService, RankingSettings.from_command_line(sys.argv[1:]))


if __name__ == "__main__":
    with missing_extras_named("serve"):
        sys.exit(main())
