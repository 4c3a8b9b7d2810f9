"""docs/tutorial.md, done step by step."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.process import wait_until_healthy
from winnow.serving.local_stack import free_port

TUTORIAL = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text()

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def blocks(language: str) -> list[str]:
    """The code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", TUTORIAL, re.MULTILINE | re.DOTALL)


@pytest.fixture
def steps(tmp_path: Path) -> Iterator[list[subprocess.CompletedProcess[str]]]:
    """What each command of the page did."""
    ports = {name: str(free_port("127.0.0.1")) for name in ("port", "candidate-port", "ranking-port")}
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    make_log, ask = blocks("python")
    subprocess.run([sys.executable, "-c", make_log], cwd=tmp_path, check=True)
    serving: subprocess.Popen[bytes] | None = None
    done = []
    try:
        for command in "".join(blocks("sh")).splitlines():
            arguments = shlex.split(command)
            if "serve" in arguments:
                name, _, value = arguments.pop(0).partition("=")
                flags = [f"--{option}={port}" for option, port in ports.items()]
                serving = subprocess.Popen([*arguments, *flags], cwd=tmp_path, env=environment | {name: value})
                wait_until_healthy(serving, f"127.0.0.1:{ports['port']}")
                continue
            if serving is not None:
                arguments += ["--target", f"127.0.0.1:{ports['port']}"]
            done.append(subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True))
        ask = ask.replace("localhost:50050", f"127.0.0.1:{ports['port']}")
        done.append(subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True))
        yield done
    finally:
        if serving is not None:
            serving.terminate()
            serving.wait()


def test_every_command_of_the_tutorial_does_what_the_page_says(
    steps: list[subprocess.CompletedProcess[str]],
) -> None:
    for step in steps:
        assert step.returncode == 0, f"{step.args}: {step.stdout}{step.stderr}"
    recommended = [step.stdout for step in steps if "recommend" in step.args]
    assert len(recommended) == 5
    assert all("sku-" in shown or " no. " in shown for shown in recommended)
    assert len(steps[-1].stdout.splitlines()) == 5
