"""Whether certificates can be used: gRPC takes whatever it is given, and fails at every handshake after that."""

import ssl
from pathlib import Path


def check_certificate(certificate_file: Path, key_file: Path, *, of_client: bool = False) -> None:
    """Raise ValueError where the key is not the certificate's, or where the other side would refuse it by its date.

    Raises OSError where a file cannot be read.
    """
    _check_readable(certificate_file, key_file)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    _load(server, certificate_file, key_file)
    if of_client:
        _load(client, certificate_file, key_file)
        client.verify_mode = ssl.CERT_NONE
        server.verify_mode = ssl.CERT_REQUIRED
    judge = server if of_client else client
    # Who trusts this very certificate refuses it only for what is in it, not for who signed it.
    judge.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    judge.load_verify_locations(certificate_file)
    try:
        _shake_hands(server, client)
    except ssl.SSLError as error:
        reason = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else error.reason
        raise ValueError(f"{certificate_file}: {reason}") from None


def check_authority(ca_file: Path) -> None:
    """Raise ValueError where a file holds no certificate, OSError where it cannot be read."""
    _check_readable(ca_file)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(ca_file)
    except ssl.SSLError as error:
        raise ValueError(f"{ca_file} holds no PEM certificate ({error.reason})") from None


def _check_readable(*files: Path) -> None:
    """Raise OSError that names the file: ssl's own does not."""
    for file in files:
        file.open("rb").close()


def _load(context: ssl.SSLContext, certificate_file: Path, key_file: Path) -> None:
    try:
        # Without a password here, OpenSSL would ask for that of an encrypted key on the terminal.
        context.load_cert_chain(certificate_file, key_file, password="")
    except ssl.SSLError as error:
        raise ValueError(
            f"{certificate_file} and {key_file} are not a PEM certificate and its key ({error.reason or 'not PEM'})"
        ) from None


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
