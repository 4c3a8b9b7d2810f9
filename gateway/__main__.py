"""`python -m gateway`."""

import sys

from gateway.service import run_gateway
from gateway.settings import GatewaySettings
from winnow.serving.workers import Supervisor

if __name__ == "__main__":
    settings = GatewaySettings.from_command_line(sys.argv[1:])
    many = settings.workers > 1
    sys.exit(Supervisor(run_gateway, settings, settings.workers).run() if many else run_gateway(settings))
