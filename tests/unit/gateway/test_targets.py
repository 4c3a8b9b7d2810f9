"""A gRPC target -> the addresses of its replicas."""

import asyncio
import socket

import pytest

from gateway.targets import Target


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("ipv4:10.0.0.1:50051,10.0.0.2:50051", ["ipv4:10.0.0.1:50051", "ipv4:10.0.0.2:50051"]),
        ("ipv6:[::1]:50051,[::2]:50051", ["ipv6:[::1]:50051", "ipv6:[::2]:50051"]),
        ("127.0.0.1:50051", ["ipv4:127.0.0.1:50051"]),
        ("[::1]:50051", ["ipv6:[::1]:50051"]),
        ("::1", ["ipv6:[::1]:443"]),
        ("dns:///127.0.0.1:50051", ["ipv4:127.0.0.1:50051"]),
        ("unix:/run/candidates", ["unix:/run/candidates"]),
        ("xds:///candidates", ["xds:///candidates"]),
        ("dns://10.0.0.53/candidates:50051", ["dns://10.0.0.53/candidates:50051"]),
    ],
)
def test_addresses_are_fixed(text: str, addresses: list[str]) -> None:
    target = Target.parse(text)
    assert asyncio.run(target.resolve()) == addresses
    assert target.authority == ""


@pytest.mark.parametrize("text", ["candidates:50051", "dns:candidates:50051", "dns:///candidates:50051"])
def test_a_name_is_looked_up_each_time(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = ["10.0.0.2", "10.0.0.1", "10.0.0.1"]

    def look_up(host: str, port: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        assert (host, port) == ("candidates", "50051")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, int(port))) for address in known]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    target = Target.parse(text)
    assert asyncio.run(target.resolve()) == ["ipv4:10.0.0.1:50051", "ipv4:10.0.0.2:50051"]
    known[:] = ["10.0.0.3"]
    assert asyncio.run(target.resolve()) == ["ipv4:10.0.0.3:50051"]
    assert target.authority == "candidates:50051"


def test_a_name_that_nobody_has_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match=r"."):
        asyncio.run(Target.parse("no-such-host.invalid:1").resolve())
