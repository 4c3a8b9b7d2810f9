"""The address of Milvus: what is refused, and that no secret is part of it."""

from pathlib import Path

import pytest

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
