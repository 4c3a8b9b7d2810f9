"""Start, health, reflection, refusal and stop of the three services."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.mounts import hung_mount
from tests.releases import write_random_release
from tests.service.process import running, start
from winnow.rpc.health import healthy
from winnow.serving.local_stack import free_port

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
    alone = ["serving without a stage"] if module == "gateway" else []
    assert events == ["listening", "release loaded", *alone, "serving", "draining", "stopped"]


def test_a_health_watcher_that_does_not_read_holds_up_nothing(releases: Path) -> None:
    flags = ("--stop-grace-seconds=0.2", "--log-format=json")
    with running("gateway", releases, *flags) as service, socket.create_connection(address(service.target)) as watcher:
        watcher.sendall(watch_without_window())
        assert watcher.recv(1)
        time.sleep(0.5)
        service.process.send_signal(signal.SIGTERM)
        _, log = service.process.communicate(timeout=20)
    assert service.process.returncode == 0, log


def address(target: str) -> tuple[str, int]:
    host, _, port = target.rpartition(":")
    return host, int(port)


def watch_without_window() -> bytes:
    """An HTTP/2 client that watches the health of the service, and lets it send nothing."""

    def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
        return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body

    headers = {":method": "POST", ":scheme": "http", ":path": "/grpc.health.v1.Health/Watch", ":authority": "x",
               "te": "trailers", "content-type": "application/grpc"}  # fmt: skip
    fields = b"".join(
        b"\x00" + b"".join(bytes([len(text)]) + text.encode() for text in field) for field in headers.items()
    )
    no_window = (4).to_bytes(2, "big") + bytes(4)
    return (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + frame(4, 0, 0, no_window) + frame(1, 4, 1, fields) + frame(0, 1, 1, bytes(5))
    )  # fmt: skip


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
@pytest.mark.parametrize("hung", ["CURRENT", "a file of the release"])
def test_sigterm_ends_a_service_that_waits_for_a_file_system(module: str, hung: str, tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    with hung_mount(mount):
        if hung == "CURRENT":
            (tmp_path / "CURRENT").symlink_to(mount / "CURRENT")
        else:
            manifest = tmp_path / write_random_release(tmp_path) / "manifest.json"
            manifest.unlink()
            manifest.symlink_to(mount / "manifest.json")
        port = free_port("127.0.0.1")
        process = start(module, f"--releases={tmp_path}", f"--port={port}", "--drain-seconds=0", "--log-format=json")
        try:
            wait_until_alive(f"127.0.0.1:{port}", process)
            time.sleep(0.5)  # it is at the file by now
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0, log
    assert [json.loads(line)["event"] for line in log.splitlines()] == ["listening", "draining", "stopped"]


@pytest.mark.parametrize("module", SERVICES)
def test_a_service_goes_on_while_the_file_system_of_new_releases_hangs_and_ends_at_sigterm(
    module: str, tmp_path: Path
) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    write_random_release(tmp_path)
    with running(module, tmp_path, "--release-poll-seconds=0.05") as service, hung_mount(mount):
        (tmp_path / "CURRENT.new").symlink_to(mount / "CURRENT")
        (tmp_path / "CURRENT.new").replace(tmp_path / "CURRENT")
        time.sleep(1)
        for name in ["", "liveness"]:
            request = health_pb2.HealthCheckRequest(service=name)
            answer = health_pb2_grpc.HealthStub(service.channel).Check(request, timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        service.process.send_signal(signal.SIGTERM)
        _, log = service.process.communicate(timeout=30)
    assert service.process.returncode == 0, log


def test_a_pipe_in_place_of_a_file_is_a_reason_not_to_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "CURRENT")
    process = start("gateway", f"--releases={tmp_path}", "--port=0", "--drain-seconds=0")
    _, log = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "CURRENT cannot be read (not a file)" in log


def wait_until_alive(target: str, process: "subprocess.Popen[str]") -> None:
    give_up = time.monotonic() + 30
    while not healthy(target, service="liveness"):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < give_up
        time.sleep(0.05)
