"""`python -m candidate_service`."""

import sys

from candidate_service.service import CandidateService
from candidate_service.settings import CandidateSettings
from winnow.serving.server import run_service

if __name__ == "__main__":
    sys.exit(run_service(CandidateService, CandidateSettings.from_command_line(sys.argv[1:])))
