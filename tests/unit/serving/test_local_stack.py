"""What ends the process that runs the three services, so that it can stop them."""

import signal
import socket
import subprocess
import sys

import pytest

from winnow.serving.local_stack import free_port, is_free

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


def test_no_port_is_given_twice() -> None:
    # In a process of its own, which holds so many sockets. Of 500 ports that are only looked up, about 20 come twice.
    program = """
from winnow.serving.local_stack import free_port
print(len({free_port("127.0.0.1") for _ in range(500)}))
"""
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "500\n"


@pytest.mark.parametrize("option", [socket.SO_REUSEADDR, socket.SO_REUSEPORT])
def test_a_server_can_listen_on_a_port_that_is_held(option: int) -> None:
    port = free_port("127.0.0.1")
    assert is_free("127.0.0.1", port)
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, option, 1)
        server.bind(("127.0.0.1", port))
        server.listen()
        socket.create_connection(("127.0.0.1", port)).close()
        assert not is_free("127.0.0.1", port)
