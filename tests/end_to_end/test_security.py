"""Mutual TLS between all parts, with rotation, and a bearer token at the edge. Tokens alone: tests/service."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.releases import item_id
from tests.service.process import start
from winnow.client import WinnowClient, WinnowError
from winnow.rpc.credentials import channel_credentials
from winnow.serving.local_stack import free_port
from winnow.v1 import status_pb2, status_pb2_grpc

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def needs_tls(transport: str) -> None:
    if transport == "native":
        pytest.skip("the native transport has no TLS, and says so: tests/unit/serving/test_transport.py")


def make_certificates(directory: Path) -> None:
    subprocess.run([ROOT / "deploy" / "certificates" / "make.sh", directory], check=True, timeout=60)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    make_certificates(directory)
    return directory


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    path.write_text("first-token\nsecond-token\n")
    return path


@pytest.fixture(scope="module")
def secure_stack(needs_tls: None, releases: Path, certificates: Path, tokens: Path) -> Iterator[dict[str, str]]:
    """The targets of all three, with mutual TLS; the gateway asks for a token too."""
    ports = {service: free_port("127.0.0.1") for service in ("candidate_service", "ranking_service", "gateway")}
    server = [
        f"--releases={releases}",
        "--drain-seconds=0",
        "--release-poll-seconds=0.2",
        f"--tls-certificate-file={certificates / 'server.pem'}",
        f"--tls-key-file={certificates / 'server.key'}",
        f"--tls-client-ca-file={certificates / 'ca.pem'}",
    ]
    gateway = [
        f"--candidate-target=127.0.0.1:{ports['candidate_service']}",
        f"--ranking-target=127.0.0.1:{ports['ranking_service']}",
        f"--stage-ca-file={certificates / 'ca.pem'}",
        f"--stage-certificate-file={certificates / 'gateway.pem'}",
        f"--stage-key-file={certificates / 'gateway.key'}",
        f"--tokens-file={tokens}",
    ]
    processes = [
        start(service, *server, f"--port={port}", *(gateway if service == "gateway" else ()))
        for service, port in ports.items()
    ]
    targets = {service: f"127.0.0.1:{port}" for service, port in ports.items()}
    try:
        with client_of(targets["gateway"], certificates, "first-token") as client:
            eventually_recommends(client)
        yield targets
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def secure_gateway(secure_stack: dict[str, str]) -> str:
    return secure_stack["gateway"]


def client_of(target: str, certificates: Path, token: str | None) -> WinnowClient:
    return WinnowClient(
        target,
        timeout_seconds=5,
        ca_file=certificates / "ca.pem",
        certificate_file=certificates / "client.pem",
        key_file=certificates / "client.key",
        token=token,
    )


def channel_of(target: str, certificates: Path, name: str) -> grpc.Channel:
    credentials = channel_credentials(
        certificates / "ca.pem", certificates / f"{name}.pem", certificates / f"{name}.key"
    )
    assert credentials is not None
    return grpc.secure_channel(target, credentials)


def eventually_recommends(client: WinnowClient) -> None:
    give_up = time.monotonic() + 60
    while True:
        try:
            if not client.recommend([item_id(1)]).degraded:
                return
        except WinnowError as error:
            assert error.code is grpc.StatusCode.UNAVAILABLE, error
        assert time.monotonic() < give_up
        time.sleep(0.2)


def test_with_certificate_and_token_everything_works(secure_gateway: str, certificates: Path) -> None:
    for token in ("first-token", "second-token"):
        with client_of(secure_gateway, certificates, token) as client:
            assert not client.recommend([item_id(1)]).degraded


@pytest.mark.parametrize("token", [None, "wrong"])
def test_a_certificate_does_not_replace_a_token(secure_gateway: str, certificates: Path, token: str | None) -> None:
    with client_of(secure_gateway, certificates, token) as client, pytest.raises(WinnowError) as failure:
        client.recommend([])
    assert failure.value.code is grpc.StatusCode.UNAUTHENTICATED


def test_health_needs_no_token(secure_gateway: str, certificates: Path) -> None:
    with channel_of(secure_gateway, certificates, "client") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("stage", ["candidate_service", "ranking_service"])
def test_a_callers_certificate_does_not_open_a_stage(
    secure_stack: dict[str, str], certificates: Path, stage: str
) -> None:
    """One authority has signed both certificates; the stage goes by the name in them."""

    def status(name: str) -> status_pb2.GetStatusResponse:
        with channel_of(secure_stack[stage], certificates, name) as channel:
            return status_pb2_grpc.StatusServiceStub(channel).GetStatus(status_pb2.GetStatusRequest(), timeout=5)

    assert status("gateway").release_id
    with pytest.raises(grpc.RpcError) as failure:
        status("client")
    assert failure.value.code() is grpc.StatusCode.PERMISSION_DENIED
    with channel_of(secure_stack[stage], certificates, "client") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_without_a_client_certificate_there_is_no_connection(secure_gateway: str, certificates: Path) -> None:
    with (
        WinnowClient(secure_gateway, timeout_seconds=2, ca_file=certificates / "ca.pem", token="first-token") as client,
        pytest.raises(WinnowError) as failure,
    ):
        client.recommend([])
    assert failure.value.code is grpc.StatusCode.UNAVAILABLE


def test_plaintext_is_refused(secure_gateway: str) -> None:
    with (
        WinnowClient(secure_gateway, timeout_seconds=2, retries=False) as client,
        pytest.raises(WinnowError) as failure,
    ):
        client.recommend([])
    assert failure.value.code is grpc.StatusCode.UNAVAILABLE


def served_certificate(target: str, certificates: Path) -> str:
    return subprocess.run(
        ["openssl", "s_client", "-connect", target, "-CAfile", certificates / "ca.pem",
         "-cert", certificates / "client.pem", "-key", certificates / "client.key"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False,
    ).stdout.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END")[0]  # fmt: skip


def test_certificates_are_rotated_without_a_restart(secure_gateway: str, certificates: Path) -> None:
    before = served_certificate(secure_gateway, certificates)
    assert before
    make_certificates(certificates)
    with client_of(secure_gateway, certificates, "first-token") as client:
        assert not client.recommend([item_id(1)]).degraded
    assert served_certificate(secure_gateway, certificates) not in ("", before)


def test_what_cannot_be_used_does_not_replace_a_certificate(releases: Path, certificates: Path, tmp_path: Path) -> None:
    for name in ("server.pem", "server.key"):
        shutil.copy(certificates / name, tmp_path / name)
    port = free_port("127.0.0.1")
    target = f"127.0.0.1:{port}"
    process = start(
        "gateway",
        f"--releases={releases}",
        f"--port={port}",
        "--drain-seconds=0",
        "--stage-wait-seconds=0",
        f"--tls-certificate-file={tmp_path / 'server.pem'}",
        f"--tls-key-file={tmp_path / 'server.key'}",
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "serving  " in line:
                break
        before = served_certificate(target, certificates)
        assert before
        shutil.copy(certificates / "client.key", tmp_path / "server.key")
        assert served_certificate(target, certificates) == before
        assert "are not a PEM certificate and its key" in process.stderr.readline()
        time.sleep(1.1)
        make_expired_certificate(certificates, tmp_path / "server.pem", tmp_path / "server.key")
        assert served_certificate(target, certificates) == before
        assert "certificate has expired" in process.stderr.readline()
    finally:
        process.kill()
        process.communicate()


def make_expired_certificate(certificates: Path, certificate: Path, key: Path) -> None:
    request = certificate.with_suffix(".csr")
    commands: list[list[str | Path]] = [
        ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-subj", "/CN=expired", "-keyout", key, "-out", request],
        ["openssl", "x509", "-req", "-in", request, "-CA", certificates / "ca.pem",
         "-CAkey", certificates / "ca.key", "-CAcreateserial", "-days", "-1", "-out", certificate],
    ]  # fmt: skip
    for command in commands:
        subprocess.run(command, check=True, capture_output=True, timeout=20)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tls-certificate-file=/no/such/file"], "tls_key_file has to be set too"),
        (["--tls-certificate-file=/no/such", "--tls-key-file=/no/such"], "No such file"),
        (["--stage-certificate-file=/no/such"], "a client certificate and its key have to be given together"),
        (["--tls-certificate-file={}/server.pem", "--tls-key-file={}/client.key"], "(KEY_VALUES_MISMATCH)"),
        (["--tls-certificate-file={}/server.key", "--tls-key-file={}/server.key"], "are not a PEM certificate"),
        (
            ["--tls-certificate-file={}/server.pem", "--tls-key-file={}/server.key",
             "--tls-client-ca-file={}/server.key"],
            "holds no PEM certificate",
        ),
        (
            ["--stage-ca-file={}/ca.pem", "--stage-certificate-file={}/client.pem", "--stage-key-file={}/server.key"],
            "(KEY_VALUES_MISMATCH)",
        ),
    ],
)  # fmt: skip
def test_wrong_security_settings_are_named(releases: Path, certificates: Path, flags: list[str], message: str) -> None:
    flags = [flag.format(certificates) for flag in flags]
    process = start("gateway", f"--releases={releases}", "--port=0", "--drain-seconds=0", *flags)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 1, log
    assert message in log
    assert "Traceback" not in log, os.linesep + log
