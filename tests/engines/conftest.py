"""Servers that the tests of several files share."""

from collections.abc import Iterator

import pytest

from tests.engines.milvus_server import MilvusServer, milvus_server
from winnow.milvus.connection import MilvusAddress


@pytest.fixture(scope="session")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A Milvus that every test leaves running."""
    with milvus_server(tmp_path_factory.mktemp("milvus")) as server:
        yield server


@pytest.fixture
def address(milvus: MilvusServer) -> MilvusAddress:
    return MilvusAddress(uri=milvus.uri)
