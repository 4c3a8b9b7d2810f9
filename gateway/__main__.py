"""`python -m gateway`."""

import sys

from winnow.distribution import missing_extras_named


def main() -> int:
    """Run the gateway and return its exit status."""
    from gateway.service import run_gateway
    from gateway.settings import GatewaySettings
    from winnow.serving.workers import Supervisor

    settings = GatewaySettings.from_command_line(sys.argv[1:])
    many = settings.workers > 1
    return Supervisor(run_gateway, settings, settings.workers).run() if many else run_gateway(settings)


if __name__ == "__main__":
    with missing_extras_named():
        sys.exit(main())
