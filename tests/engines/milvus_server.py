"""A real Milvus: the standalone server that the wheel `milvus` brings, in a temporary folder."""

import importlib.util
import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml

from winnow.serving.local_stack import free_port

START_SECONDS = 120.0
NO_SETTINGS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class MilvusServer:
    """A server that runs."""

    uri: str
    process: "subprocess.Popen[bytes]"

    def pause(self) -> None:
        """Let it answer nothing, while its connections stay."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def milvus_server(directory: Path, settings: Mapping[str, Any] = NO_SETTINGS) -> Iterator[MilvusServer]:
    """Yield a server with its data in an empty directory, after ten seconds. Skips where it is not installed.

    `settings` are those of the template of the wheel.
    """
    if importlib.util.find_spec("milvus") is None:
        pytest.skip("THE SERVER OF MILVUS IS NOT INSTALLED: pip install milvus==2.3.5 (Linux on x86-64)")
    from milvus import MilvusServerConfig, _initialize_data_files

    with ExitStack() as stack:
        config = MilvusServerConfig(data_dir=str(directory))
        # It leaks the sockets with which it looks for ports itself.
        config.update(
            **{key: free_port("127.0.0.1") for key in config.config_key_maps.values() if key.endswith("_port")}
        )
        for name, value in settings.items():
            config.set(name, value)
        # Nor can it bind those of free_port, as it does not set what servers set.
        config.try_bind_port = lambda _port: socket.socket()
        config.resolve()
        _give_etcd_ports(directory / "configs", config.get("etcd_port"))
        _initialize_data_files(str(directory))
        metrics_port = free_port("127.0.0.1")
        log = stack.enter_context((directory / "server.log").open("wb"))
        process = subprocess.Popen(
            [directory / "bin" / "milvus", "run", "standalone"],
            cwd=directory,
            env={
                "DEPLOY_MODE": "STANDALONE",
                "HOME": str(directory),
                "LD_LIBRARY_PATH": str(directory / "bin"),
                "METRICS_PORT": str(metrics_port),
                "MILVUS_RUN_DIR": str(directory / "run"),
                "PATH": "/usr/bin:/bin",
            },
            stdout=log,
            stderr=log,
        )
        stack.callback(_stop, process)
        _wait(f"http://127.0.0.1:{metrics_port}/healthz", process)
        scheme = "https" if settings.get("tls_mode") else "http"
        yield MilvusServer(uri=f"{scheme}://localhost:{config.get('proxy_port')}", process=process)


def _give_etcd_ports(directory: Path, port: int) -> None:
    """Let the etcd in Milvus listen elsewhere than on 2379 and 2380, where other servers of a machine may."""
    client, peer = f"http://localhost:{port}", f"http://localhost:{free_port('127.0.0.1')}"
    etcd = {
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
    }
    (directory / "etcd.json").write_text(json.dumps(etcd))
    path = directory / "milvus.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["etcd"]["config"] = {"path": str(directory / "etcd.json")}
    path.write_text(yaml.safe_dump(settings))


def _wait(health: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(health, timeout=5) as answer:  # noqa: S310
                if b"OK" in answer.read():
                    return
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
    raise RuntimeError(f"Milvus has not started: exit status {process.poll()}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()
