"""Start, health, reflection, refusal and stop of the three services."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.releases import write_random_release
from tests.service.process import running, start

SERVICES = {
    "candidate_service": ["winnow.v1.CandidateService"],
    "ranking_service": ["winnow.v1.RankingService"],
    "gateway": ["winnow.v1.RecommendationService", "winnow.v1.CatalogueService"],
}


def reflected_services(channel: grpc.Channel) -> set[str]:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (response,) = stub.ServerReflectionInfo(iter([request]), timeout=5)
    return {service.name for service in response.list_services_response.service}


@pytest.mark.parametrize("module", SERVICES)
def test_serves_until_sigterm_then_exits_0(module: str, releases: Path) -> None:
    with running(module, releases, "--log-format=json") as service:
        health = health_pb2_grpc.HealthStub(service.channel)
        for name in ["", *SERVICES[module]]:
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert set(SERVICES[module]) < reflected_services(service.channel)

        service.process.send_signal(signal.SIGTERM)
        _, log = service.process.communicate(timeout=20)
    assert service.process.returncode == 0, log
    events = [json.loads(line)["event"] for line in log.splitlines()]
    assert events == ["listening", "release loaded", "serving", "draining", "stopped"]


def test_a_taken_port_is_named(releases: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        logs = logs_of_failed_starts(f"--releases={releases}", f"--port={port}")
    for module, log in logs.items():
        assert f"cannot listen on 127.0.0.1:{port}: is the port taken?" in log, module


def logs_of_failed_starts(*flags: str) -> dict[str, str]:
    """Start all three services at the same time, each to fail, and return what they log."""
    processes = {module: start(module, *flags, "--drain-seconds=0") for module in SERVICES}
    logs = {module: process.communicate(timeout=60)[1] for module, process in processes.items()}
    assert {process.returncode for process in processes.values()} == {1}, logs
    return logs


def test_a_second_server_on_the_same_port_fails(releases: Path) -> None:
    with running("gateway", releases) as service:
        second = start("gateway", f"--releases={releases}", f"--port={service.target.split(':')[1]}")
        _, log = second.communicate(timeout=30)
        assert second.returncode == 1
        assert "is the port taken?" in log


def test_a_missing_release_is_named(tmp_path: Path) -> None:
    for module, log in logs_of_failed_starts(f"--releases={tmp_path}", "--port=0").items():
        assert f"no release in {tmp_path}" in log, module


def test_a_damaged_release_is_refused_with_the_reason(tmp_path: Path) -> None:
    release = tmp_path / write_random_release(tmp_path)
    path = release / "golden.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    for module, log in logs_of_failed_starts(f"--releases={tmp_path}", "--port=0").items():
        assert f"release {release.name}: golden.safetensors has" in log, module


def test_an_invalid_setting_ends_the_process_with_a_message() -> None:
    process = start("gateway", "--port=70000")
    _, log = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "--port or WINNOW_GATEWAY_PORT" in log
    assert "Traceback" not in log


def test_settings_come_from_the_environment(releases: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "gateway"],
        env={"PATH": "", "WINNOW_GATEWAY_RELEASES": str(releases / "absent"), "WINNOW_GATEWAY_PORT": "0",
             "WINNOW_GATEWAY_DRAIN_SECONDS": "0"},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert f"no release in {releases / 'absent'}" in result.stderr


def test_reflection_can_be_turned_off(releases: Path) -> None:
    with running("gateway", releases, "--no-reflection") as service, pytest.raises(grpc.RpcError) as failure:
        reflected_services(service.channel)
    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("module", SERVICES)
def test_sigterm_while_loading_ends_the_process(module: str, tmp_path: Path) -> None:
    manifest = tmp_path / write_random_release(tmp_path) / "manifest.json"
    manifest.unlink()
    os.mkfifo(manifest)
    process = start(module, f"--releases={tmp_path}", "--port=0", "--drain-seconds=0", "--log-format=json")
    # The service opens the manifest, and then waits for what is never written.
    with opened_while_read(manifest, process):
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
    assert [json.loads(line)["event"] for line in log.splitlines()] == ["listening", "draining", "stopped"]


@contextlib.contextmanager
def opened_while_read(pipe: Path, reader: "subprocess.Popen[str]") -> Iterator[None]:
    """Open a named pipe for writing as soon as the process has opened it for reading."""
    give_up = time.monotonic() + 30
    while True:
        try:
            descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError:
            assert reader.poll() is None, reader.communicate()[1]
            assert time.monotonic() < give_up
            time.sleep(0.02)
    try:
        yield
    finally:
        os.close(descriptor)
