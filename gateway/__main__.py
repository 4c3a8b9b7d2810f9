"""`python -m gateway`."""

import sys

from gateway.service import GatewayService
from gateway.settings import GatewaySettings
from winnow.serving.server import run_service

if __name__ == "__main__":
    settings = GatewaySettings.from_command_line(sys.argv[1:])
    sys.exit(run_service(settings, lambda: GatewayService(settings), settings.port))
