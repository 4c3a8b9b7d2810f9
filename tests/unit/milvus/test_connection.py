"""The address of Milvus: what is refused, and that no secret is part of it; and what its client makes of failures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymilvus import MilvusClient
from pymilvus.grpc_gen import common_pb2

from tests.unit.milvus.fake_milvus import FakeMilvus, fake_milvus
from winnow.milvus.connection import EngineError, MilvusAddress


@pytest.mark.parametrize(
    "uri", ["milvus:19530", "http://milvus", "ftp://milvus:1", "http://:19530", "http://m:1/db", ""]
)
def test_another_form_of_address_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="is no address of Milvus, such as http://milvus:19530"):
        MilvusAddress(uri=uri)


def test_an_address_with_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="put user:password into a file") as refused:
        MilvusAddress(uri="http://winnow:secret@milvus:19530")
    assert "secret" not in str(refused.value)


def test_authorities_without_tls_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="use https://"):
        MilvusAddress(uri="http://milvus:19530", ca_file=tmp_path / "ca.pem")


def test_a_token_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the token of Milvus cannot be read"):
        MilvusAddress(uri="http://milvus:19530", token_file=tmp_path / "none").metadata()


def test_without_a_server_the_client_says_where_it_has_looked() -> None:
    address = MilvusAddress(uri="http://127.0.0.1:1")
    with pytest.raises(EngineError, match=r"Milvus at http://127\.0\.0\.1:1: "), address.client(0.2):
        pass


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.has_collection("x"),
        lambda client: client.describe_collection("x"),
        lambda client: client.list_collections(),
        lambda client: client.load_collection("x"),
        lambda client: client.drop_collection("x"),
        lambda client: client.flush("x"),
        lambda client: client.alter_collection_properties("x", {"a": "b"}),
        lambda client: client.query("x", filter="", output_fields=["count(*)"]),
        lambda client: client.insert("x", [{"row": 1}]),
    ],
)
def test_a_server_that_falls_silent_is_given_up(ask: Callable[[MilvusClient], Any]) -> None:
    """Or whoever asks would wait for ever: a service for its next release, a publisher with its lock."""
    fake = FakeMilvus()
    fake.silent = True
    with (
        fake_milvus(fake) as address,
        pytest.raises(EngineError, match=r"Milvus at http://127\.0\.0\.1:\d+: .*(DEADLINE_EXCEEDED|timeout)"),
        address.client(0.3) as client,
    ):
        ask(client)
    assert 0 < fake.longest_seconds < 1


def test_a_refusal_without_a_reason_is_one_line_all_the_same() -> None:
    fake = FakeMilvus()
    fake.refusal = common_pb2.Status(error_code=common_pb2.UnexpectedError, code=65535)
    with (
        fake_milvus(fake) as address,
        pytest.raises(EngineError, match=r"^Milvus at http://127\.0\.0\.1:\d+: .+$"),
        address.client(0.3) as client,
    ):
        client.drop_collection("x")
