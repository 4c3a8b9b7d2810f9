"""What ends the process that runs the three services, so that it can stop them."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import signal
from winnow.serving.local_stack import forward_signals_as_exit

forward_signals_as_exit()
try:
    print("ready", flush=True)
    signal.pause()
finally:
    print("stopped")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_context_managers_are_left_on_a_signal_and_when_the_terminal_is_closed(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.read() == "stopped\n"
    assert process.returncode == 0
