"""TLS and mutual TLS: credentials from files that may be replaced while the process runs."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import structlog

from winnow.rpc.certificates import check_authority, check_certificate
from winnow.serving.settings import ServerSettings

_log = structlog.get_logger(__name__)

# What was refused may be one file of two that are being replaced, or valid a little later.
LOOK_AGAIN_SECONDS = 1.0


@dataclass(frozen=True)
class Fingerprint:
    """The state of some files: their sizes and times of change."""

    stats: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, *paths: Path | None) -> "Fingerprint":
        """Look at the files. Raises OSError where one is missing."""
        stats = [path.stat() for path in paths if path is not None]
        return cls(tuple((stat.st_size, stat.st_mtime_ns) for stat in stats))


def server_credentials(settings: ServerSettings) -> grpc.ServerCredentials | None:
    """Return credentials that follow the files, or None where TLS is off.

    Raises ValueError, naming the setting or the file, where files are missing, cannot be used, or only some are set.
    """
    certificate, key, client_ca = (
        settings.tls_certificate_file, settings.tls_key_file, settings.tls_client_ca_file
    )  # fmt: skip
    if certificate is None:
        if key is not None or client_ca is not None:
            raise ValueError("tls_certificate_file has to be set too where tls_key_file or tls_client_ca_file is")
        return None
    if key is None:
        raise ValueError("tls_key_file has to be set too where tls_certificate_file is")
    files = _CertificateFiles(certificate, key, client_ca)
    try:
        initial = files.read()
    except OSError as error:
        raise ValueError(f"TLS file cannot be read: {error}") from error
    return grpc.dynamic_ssl_server_credentials(
        initial, files.replaced, require_client_authentication=client_ca is not None
    )


def certificate_names(context: "grpc.aio.ServicerContext[Any, Any]") -> list[str]:
    """Return the names in the caller's certificate: the alternative ones, or the common name where there are none."""
    identity = context.auth_context()
    names = identity.get("x509_subject_alternative_name") or identity.get("x509_common_name") or ()
    return [name.decode(errors="replace") for name in names]


class _CertificateFiles:
    """A server's certificate, its key, and the authorities of its callers."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._state: Fingerprint | None = None
        self._look_again_at = 0.0

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Read the files. Raises OSError, and ValueError where they cannot be used."""
        state = Fingerprint.of(self._certificate, self._key, self._client_ca)
        check_certificate(self._certificate, self._key)
        if self._client_ca is not None:
            check_authority(self._client_ca)
        configuration = grpc.ssl_server_certificate_configuration(
            [(self._key.read_bytes(), self._certificate.read_bytes())],
            self._client_ca.read_bytes() if self._client_ca else None,
        )
        self._state = state
        return configuration

    def replaced(self) -> Any:  # a configuration or None; the stub knows no None
        """Return what has replaced the files since they were read; None where nothing that can be used has.

        gRPC asks at every handshake.
        """
        if time.monotonic() < self._look_again_at:
            return None
        try:
            if Fingerprint.of(self._certificate, self._key, self._client_ca) == self._state:
                return None
            configuration = self.read()
        except (OSError, ValueError) as error:
            # The files are being replaced, or wrong: the certificate in use stays until they are right.
            _log.warning("certificate refused", reason=str(error))
            self._look_again_at = time.monotonic() + LOOK_AGAIN_SECONDS
            return None
        _log.info("certificate replaced", file=str(self._certificate))
        return configuration
