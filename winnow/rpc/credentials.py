"""A client's TLS and mutual TLS credentials, from files."""

from pathlib import Path

import grpc

from winnow.rpc.certificates import check_authority, check_certificate


def channel_credentials(
    ca_file: Path | None, certificate_file: Path | None, key_file: Path | None
) -> grpc.ChannelCredentials | None:
    """Return a client's credentials, or None where no authority is given and TLS is off.

    Raises ValueError where a file is missing or cannot be used, or a certificate is without its key or an authority.
    """
    if (certificate_file is None) != (key_file is None):
        raise ValueError("a client certificate and its key have to be given together")
    if ca_file is None:
        if certificate_file is not None:
            raise ValueError("a client certificate needs the servers' authority too")
        return None
    try:
        check_authority(ca_file)
        if certificate_file is not None and key_file is not None:
            check_certificate(certificate_file, key_file, of_client=True)
        return grpc.ssl_channel_credentials(
            ca_file.read_bytes(),
            key_file.read_bytes() if key_file else None,
            certificate_file.read_bytes() if certificate_file else None,
        )
    except OSError as error:
        raise ValueError(f"TLS file cannot be read: {error}") from error
