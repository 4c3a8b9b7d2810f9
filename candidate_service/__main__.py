"""`python -m candidate_service`."""

import sys

from winnow.distribution import missing_extras_named


def main() -> int:
    """Run the service and return its exit status."""
    from candidate_service.service import CandidateService
    from candidate_service.settings import CandidateSettings
    from winnow.serving.server import run_service

    return run_service(CandidateService, CandidateSettings.from_command_line(sys.argv[1:]))


if __name__ == "__main__":
    with missing_extras_named("serve"):
        sys.exit(main())
