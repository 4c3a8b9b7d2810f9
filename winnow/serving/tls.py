"""TLS and mutual TLS: credentials from files that may be replaced while the process runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import structlog

from winnow.serving.settings import ServerSettings

_log = structlog.get_logger(__name__)


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

    Raises ValueError, naming the setting, where files are missing or only some of them are set.
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
    paths = (certificate, key, client_ca)
    try:
        read_state = Fingerprint.of(*paths)
    except OSError as error:
        raise ValueError(f"TLS file cannot be read: {error}") from error

    def configuration() -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(key.read_bytes(), certificate.read_bytes())], client_ca.read_bytes() if client_ca else None
        )

    def fetch() -> Any:  # the configuration or None; the stub knows no None
        # Called at every handshake; None stands for the configuration in use.
        nonlocal read_state
        try:
            state = Fingerprint.of(*paths)
            if state == read_state:
                return None
            fetched = configuration()
        except OSError as error:
            # The files are being replaced: the certificate in use stays until they can be read.
            _log.warning("certificate cannot be read", reason=str(error))
            return None
        read_state = state
        _log.info("certificate replaced", file=str(certificate))
        return fetched

    return grpc.dynamic_ssl_server_credentials(
        configuration(), fetch, require_client_authentication=client_ca is not None
    )
