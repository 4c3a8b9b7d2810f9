"""`python -m gateway`."""

import sys

from gateway.service import GatewayService
from gateway.settings import GatewaySettings
from winnow.serving.server import run_service

if __name__ == "__main__":
    sys.exit(run_service(GatewayService, GatewaySettings.from_command_line(sys.argv[1:])))
