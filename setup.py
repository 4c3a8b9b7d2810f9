"""Generates winnow/v1 from protos/ whenever the package is built or installed in place; see pyproject.toml."""

import os
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


def generate_protocol(destination: Path) -> None:
    """Write the messages, stubs and type hints of every proto file into `destination`/winnow/v1."""
    import grpc_tools
    from grpc_tools import protoc

    sources = sorted((ROOT / "protos").rglob("*.proto"))
    package = destination / "winnow" / "v1"
    package.mkdir(parents=True, exist_ok=True)
    # pip puts the scripts of its build environment on PATH; without build isolation they are next to the interpreter.
    os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)])
    arguments = [
        "protoc",
        f"--proto_path={ROOT / 'protos'}",
        f"--proto_path={Path(grpc_tools.__file__).parent / '_proto'}",
        f"--python_out={destination}",
        f"--grpc_python_out={destination}",
        f"--mypy_out=quiet:{destination}",
        f"--mypy_grpc_out=quiet:{destination}",
        *map(str, sources),
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed: see its output above")
    (package / "__init__.py").write_text('"""Generated from protos/winnow/v1 by setup.py; do not edit."""\n')


class BuildWithProtocol(build_py):
    def run(self) -> None:
        generate_protocol(ROOT if self.editable_mode else Path(self.build_lib))
        super().run()


setup(cmdclass={"build_py": BuildWithProtocol})
