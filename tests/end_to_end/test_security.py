"""Mutual TLS between all parts, with rotation, and bearer tokens at the edge."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.releases import item_id
from tests.service.process import running, start
from winnow.client import WinnowClient, WinnowError
from winnow.serving.local_stack import free_port

ROOT = Path(__file__).parents[2]


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
def secure_gateway(releases: Path, certificates: Path, tokens: Path) -> Iterator[str]:
    """All three with mutual TLS; the gateway asks for a token too."""
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
        f"--stage-certificate-file={certificates / 'client.pem'}",
        f"--stage-key-file={certificates / 'client.key'}",
        f"--tokens-file={tokens}",
    ]
    processes = [
        start(service, *server, f"--port={port}", *(gateway if service == "gateway" else ()))
        for service, port in ports.items()
    ]
    target = f"127.0.0.1:{ports['gateway']}"
    try:
        with client_of(target, certificates, "first-token") as client:
            eventually_recommends(client)
        yield target
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def client_of(target: str, certificates: Path, token: str | None) -> WinnowClient:
    return WinnowClient(
        target,
        timeout_seconds=5,
        ca_file=certificates / "ca.pem",
        certificate_file=certificates / "client.pem",
        key_file=certificates / "client.key",
        token=token,
    )


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


@pytest.mark.parametrize(("token", "message"), [(None, "is needed"), ("wrong", "is not valid"), ("", "is not valid")])
def test_without_a_valid_token_every_call_is_unauthenticated(
    secure_gateway: str, certificates: Path, token: str | None, message: str
) -> None:
    with client_of(secure_gateway, certificates, token) as client:
        for call in (lambda: client.recommend([]), lambda: client.search("x"), lambda: client.items(["x"])):
            with pytest.raises(WinnowError, match=message) as failure:
                call()
            assert failure.value.code is grpc.StatusCode.UNAUTHENTICATED


def test_health_needs_no_token(secure_gateway: str, certificates: Path) -> None:
    credentials = grpc.ssl_channel_credentials(
        (certificates / "ca.pem").read_bytes(),
        (certificates / "client.key").read_bytes(),
        (certificates / "client.pem").read_bytes(),
    )
    with grpc.secure_channel(secure_gateway, credentials) as channel:
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


def test_a_replaced_token_works_and_the_old_one_does_not(secure_gateway: str, certificates: Path, tokens: Path) -> None:
    before = tokens.read_text()
    try:
        tokens.write_text("third-token\n")
        with client_of(secure_gateway, certificates, "third-token") as client:
            give_up = time.monotonic() + 10
            while True:
                try:
                    client.recommend([])
                    break
                except WinnowError:
                    assert time.monotonic() < give_up
                    time.sleep(0.2)
        with (
            client_of(secure_gateway, certificates, "first-token") as client,
            pytest.raises(WinnowError) as failure,
        ):
            client.recommend([])
        assert failure.value.code is grpc.StatusCode.UNAUTHENTICATED
    finally:
        tokens.write_text(before)
        time.sleep(1.5)


def test_certificates_are_rotated_without_a_restart(secure_gateway: str, certificates: Path) -> None:
    def served_certificate() -> str:
        return subprocess.run(
            ["openssl", "s_client", "-connect", secure_gateway, "-CAfile", certificates / "ca.pem",
             "-cert", certificates / "client.pem", "-key", certificates / "client.key"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False,
        ).stdout.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END")[0]  # fmt: skip

    before = served_certificate()
    assert before
    make_certificates(certificates)
    with client_of(secure_gateway, certificates, "first-token") as client:
        assert not client.recommend([item_id(1)]).degraded
    assert served_certificate() not in ("", before)


def test_secrets_are_not_logged(releases: Path, tokens: Path) -> None:
    with running("gateway", releases, f"--tokens-file={tokens}", "--log-level=debug") as service:
        for token in ("first-token", "no-such-token"):
            with WinnowClient(service.target, timeout_seconds=5, token=token, retries=False) as client:
                try:
                    client.recommend([])
                except WinnowError as error:
                    assert (token, error.code) == ("no-such-token", grpc.StatusCode.UNAUTHENTICATED)
        service.process.terminate()
        _, log = service.process.communicate(timeout=20)
    assert "serving" in log
    assert "first-token" not in log
    assert "no-such-token" not in log


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tokens-file=/no/such/file"], "tokens file /no/such/file cannot be read"),
        (["--tls-certificate-file=/no/such/file"], "tls_key_file has to be set too"),
        (["--tls-certificate-file=/no/such", "--tls-key-file=/no/such"], "No such file"),
        (["--stage-certificate-file=/no/such"], "a client certificate and its key have to be given together"),
    ],
)
def test_wrong_security_settings_are_named(releases: Path, flags: list[str], message: str) -> None:
    process = start("gateway", f"--releases={releases}", "--port=0", "--drain-seconds=0", *flags)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 1, log
    assert message in log
    assert "Traceback" not in log, os.linesep + log
