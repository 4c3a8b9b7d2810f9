"""`winnow serve` where the services do not start in time."""

import subprocess
import sys
from pathlib import Path


def test_how_long_the_services_may_take_to_start_is_for_the_operator_to_say(releases: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "winnow.cli", "serve", f"--releases={releases}", "--port=0", "--candidate-port=0",
         "--ranking-port=0", "--start-timeout-seconds=0.1"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert "not listening after 0.1 seconds" in result.stderr.replace("\n", " ")
