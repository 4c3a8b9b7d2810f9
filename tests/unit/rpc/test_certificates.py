"""Certificates are tried as the other side would try them."""

import subprocess
from pathlib import Path

import pytest

from winnow.rpc.certificates import check_authority, check_certificate
from winnow.rpc.credentials import channel_credentials

MAKE = Path(__file__).parents[3] / "deploy" / "certificates" / "make.sh"


def openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True, timeout=20)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of make.sh, one that has expired, and a key with a password."""
    directory = tmp_path_factory.mktemp("certificates")
    subprocess.run([MAKE, directory], check=True, timeout=60)
    openssl(directory, "req", "-new", "-key", "client.key", "-subj", "/CN=expired", "-out", "expired.csr")
    (directory / "extensions").write_text("extendedKeyUsage=clientAuth,serverAuth")
    openssl(
        directory, "x509", "-req", "-in", "expired.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
        "-days", "-1", "-extfile", "extensions", "-out", "expired.pem",
    )  # fmt: skip
    openssl(directory, "ec", "-in", "server.key", "-aes128", "-passout", "pass:secret", "-out", "encrypted.key")
    (directory / "chain.pem").write_text((directory / "server.pem").read_text() + (directory / "ca.pem").read_text())
    return directory


@pytest.mark.parametrize(
    ("certificate", "key", "of_client"),
    [("server.pem", "server.key", False), ("chain.pem", "server.key", False), ("client.pem", "client.key", True)],
)
def test_what_can_be_used(certificates: Path, certificate: str, key: str, of_client: bool) -> None:
    check_certificate(certificates / certificate, certificates / key, of_client=of_client)


@pytest.mark.parametrize(
    ("certificate", "key", "of_client", "message"),
    [
        ("server.pem", "client.key", False, "are not a PEM certificate and its key (KEY_VALUES_MISMATCH)"),
        ("client.pem", "server.key", True, "are not a PEM certificate and its key (KEY_VALUES_MISMATCH)"),
        ("server.key", "server.key", False, "are not a PEM certificate and its key"),
        ("server.pem", "encrypted.key", False, "are not a PEM certificate and its key"),
        ("expired.pem", "client.key", False, "expired.pem: certificate has expired"),
        ("expired.pem", "client.key", True, "expired.pem: certificate has expired"),
        ("client.pem", "client.key", False, "client.pem: unsuitable certificate purpose"),
    ],
)
def test_what_cannot_be_used_is_named(
    certificates: Path, certificate: str, key: str, of_client: bool, message: str
) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the message is looked at below
        check_certificate(certificates / certificate, certificates / key, of_client=of_client)
    assert message in str(refused.value)


def test_an_authority_is_a_certificate(certificates: Path) -> None:
    check_authority(certificates / "ca.pem")
    with pytest.raises(ValueError, match=r"ca\.key holds no PEM certificate"):
        check_authority(certificates / "ca.key")


def test_a_clients_credentials_are_tried(certificates: Path, tmp_path: Path) -> None:
    files = (certificates / "ca.pem", certificates / "client.pem", certificates / "client.key")
    assert channel_credentials(*files) is not None
    for wrong in (
        (certificates / "ca.key", *files[1:]),
        (files[0], certificates / "expired.pem", files[2]),
        (files[0], files[1], certificates / "server.key"),
        (files[0], files[1], tmp_path / "absent"),
    ):
        with pytest.raises(ValueError, match=r"\.(pem|key)|absent"):
            channel_credentials(*wrong)
