"""A server that speaks as much of Milvus's protocol as a client needs to look for collections and to drop them."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc

from winnow.milvus.connection import MilvusAddress

# Longer than any test waits.
SILENCE_SECONDS = 60


class FakeMilvus(milvus_pb2_grpc.MilvusServiceServicer):  # type: ignore[misc]
    """Holds names of collections. It may be silent, or refuse everything, once a client is connected."""

    def __init__(self, collections: list[str] | None = None) -> None:
        self.collections = collections or []
        self.silent = False
        self.refusal = common_pb2.Status()
        self.longest_seconds = 0.0
        """The longest time that a client has given it while it was silent."""
        self.ended = threading.Event()

    def Connect(self, _request: milvus_pb2.ConnectRequest, _context: Any) -> milvus_pb2.ConnectResponse:
        return milvus_pb2.ConnectResponse(identifier=1, server_info=common_pb2.ServerInfo(build_tags="2.3.5"))

    def DescribeCollection(self, _request: Any, context: grpc.ServicerContext) -> milvus_pb2.DescribeCollectionResponse:
        self._wait(context)
        return milvus_pb2.DescribeCollectionResponse(status=self.refusal)

    def ShowCollections(self, _request: Any, context: grpc.ServicerContext) -> milvus_pb2.ShowCollectionsResponse:
        self._wait(context)
        return milvus_pb2.ShowCollectionsResponse(status=self.refusal, collection_names=self.collections)

    def DropCollection(
        self, request: milvus_pb2.DropCollectionRequest, context: grpc.ServicerContext
    ) -> common_pb2.Status:
        self._wait(context)
        if not self.refusal.code:
            self.collections.remove(request.collection_name)
        return self.refusal

    def LoadCollection(self, _request: Any, context: grpc.ServicerContext) -> common_pb2.Status:
        self._wait(context)
        return self.refusal

    def AlterCollection(self, _request: Any, context: grpc.ServicerContext) -> common_pb2.Status:
        self._wait(context)
        return self.refusal

    def Flush(self, _request: Any, context: grpc.ServicerContext) -> milvus_pb2.FlushResponse:
        self._wait(context)
        return milvus_pb2.FlushResponse(status=self.refusal)

    def Query(self, _request: Any, context: grpc.ServicerContext) -> milvus_pb2.QueryResults:
        self._wait(context)
        return milvus_pb2.QueryResults(status=self.refusal)

    def _wait(self, context: grpc.ServicerContext) -> None:
        if self.silent:
            self.longest_seconds = max(self.longest_seconds, context.time_remaining())
            self.ended.wait(SILENCE_SECONDS)


@contextmanager
def fake_milvus(fake: FakeMilvus) -> Iterator[MilvusAddress]:
    """Serve it until the block ends."""
    with ThreadPoolExecutor(8) as threads:
        server = grpc.server(threads)
        milvus_pb2_grpc.add_MilvusServiceServicer_to_server(fake, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield MilvusAddress(uri=f"http://127.0.0.1:{port}")
        finally:
            fake.ended.set()
            server.stop(None).wait()
