"""The gRPC target of a stage -> the addresses of its replicas."""

import asyncio
import ipaddress
import socket
from dataclasses import dataclass
from typing import Self

# gRPC balances behind these itself, and finds their replicas itself.
OPAQUE_SCHEMES = ("unix", "unix-abstract", "vsock", "xds", "google-c2p")
DEFAULT_PORT = "443"
"""gRPC's, for a name without one."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Fixed addresses, or a name that stands for the addresses that it has at the moment."""

    addresses: tuple[str, ...] = ()
    """As gRPC targets, one a replica; empty where there is a name."""
    host: str = ""
    port: str = DEFAULT_PORT

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a target: `name:port`, `dns:///name:port`, `ipv4:address:port,...`, or another one that gRPC knows."""
        scheme, _, rest = text.partition(":")
        if scheme in OPAQUE_SCHEMES:
            return cls(addresses=(text,))
        if scheme in ("ipv4", "ipv6"):
            return cls(addresses=tuple(f"{scheme}:{address}" for address in rest.lstrip("/").split(",")))
        name = text
        if scheme == "dns":
            server, _, name = rest.removeprefix("//").partition("/") if rest.startswith("//") else ("", "", rest)
            if server:
                # A name server of its own: gRPC asks it.
                return cls(addresses=(text,))
        host, port = _split(name)
        try:
            version = ipaddress.ip_address(host).version
        except ValueError:
            return cls(host=host, port=port)
        return cls(addresses=(_address(version, host, port),))

    @property
    def authority(self) -> str:
        """What certificates and proxies know the replicas by; empty where it is their addresses."""
        return f"{self.host}:{self.port}" if self.host else ""

    async def resolve(self) -> list[str]:
        """Return the addresses in a fixed order. Raises OSError or ValueError where a name cannot be looked up."""
        if not self.host:
            return list(self.addresses)
        found = await asyncio.get_running_loop().getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        versions = {socket.AF_INET: 4, socket.AF_INET6: 6}
        return sorted(
            {_address(versions[family], *map(str, where[:2])) for family, _, _, _, where in found if family in versions}
        )


def _split(name: str) -> tuple[str, str]:
    """Host and port of `host`, `host:port`, `[::1]`, `[::1]:port` or `::1`."""
    if name.startswith("["):
        host, _, port = name[1:].partition("]")
        return host, port.removeprefix(":") or DEFAULT_PORT
    if name.count(":") > 1:
        return name, DEFAULT_PORT
    host, _, port = name.partition(":")
    return host, port or DEFAULT_PORT


def _address(version: int, host: str, port: str) -> str:
    return f"ipv4:{host}:{port}" if version == 4 else f"ipv6:[{host}]:{port}"
