"""A gateway without stages, over real gRPC: keeps what it was asked and answers what a test has prepared."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any, NamedTuple

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import code_pb2, error_details_pb2, status_pb2

from winnow.rpc.violations import Violation
from winnow.v1 import catalogue_pb2, catalogue_pb2_grpc, recommendation_pb2, recommendation_pb2_grpc


class Failure(NamedTuple):
    """What a call fails with."""

    code: grpc.StatusCode
    message: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...] = ()


def invalid_argument(violations: Sequence[Violation]) -> Failure:
    """The failure of a call whose fields are wrong, with the details that the gateway sends."""
    detail = AnyMessage()
    detail.Pack(
        error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
                for field, description in violations
            ]
        )
    )
    message = f"{violations[0].field}: {violations[0].description} (and {len(violations) - 1} more)"
    status = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message=message, details=[detail])
    return Failure(
        grpc.StatusCode.INVALID_ARGUMENT, message, (("grpc-status-details-bin", status.SerializeToString()),)
    )


class FakeGateway(recommendation_pb2_grpc.RecommendationServiceServicer, catalogue_pb2_grpc.CatalogueServiceServicer):
    """Every request is kept; recommendations are answered with `response`, look-ups and searches from `items`."""

    def __init__(self) -> None:
        self.target = ""
        self.requests: list[Any] = []
        self.on_request: Callable[[], object] = lambda: None
        """Called for every request, before it is answered."""
        self.received = Event()
        """Set by the first request."""
        self.peers: list[str] = []
        """The other end of each call's connection."""
        self.metadata: list[dict[str, str | bytes]] = []
        self.response: Any = None
        self.status = recommendation_pb2.RequestStatus(code=3, message="bad")
        """What a bad request of a batch fails with."""
        self.failures: list[Failure] = []
        """Calls fail with these, one after the other, before any is answered."""
        self.items: Sequence[catalogue_pb2.Item] = ()
        """The most popular first."""
        self.release = catalogue_pb2.GetReleaseResponse(release_id="release-1")
        self.release_ids = ["release-1"]
        """Of the catalogue's answers, one after the other; the last one goes on."""

    def RecommendItems(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._recommendation(request, context, recommendation_pb2.RecommendItemsResponse())

    def RetrieveItems(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._recommendation(request, context, recommendation_pb2.RetrieveItemsResponse())

    def RankItems(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._recommendation(request, context, recommendation_pb2.RankItemsResponse())

    def SimilarItems(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._recommendation(request, context, recommendation_pb2.SimilarItemsResponse())

    def ExplainItem(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._recommendation(request, context, recommendation_pb2.ExplainItemResponse())

    def BatchRecommendItems(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._receive(request, context)
        return recommendation_pb2.BatchRecommendItemsResponse(results=map(self.result, request.requests))

    def result(self, request: recommendation_pb2.RecommendItemsRequest) -> recommendation_pb2.RecommendItemsResult:
        """Answer with `response` and the ids of the history, or fail where the history holds "bad"."""
        item_ids = [watch.item_id for watch in request.history]
        if "bad" in item_ids:
            return recommendation_pb2.RecommendItemsResult(status=self.status)
        response = recommendation_pb2.RecommendItemsResponse()
        if self.response is not None:
            response.CopyFrom(self.response)
        if "nothing" not in item_ids:
            response.items.extend(recommendation_pb2.ScoredItem(item_id=item_id) for item_id in item_ids)
        return recommendation_pb2.RecommendItemsResult(response=response)

    def BatchGetItems(
        self, request: catalogue_pb2.BatchGetItemsRequest, context: grpc.ServicerContext
    ) -> catalogue_pb2.BatchGetItemsResponse:
        self._receive(request, context)
        known = {item.item_id: item for item in self.items}
        return catalogue_pb2.BatchGetItemsResponse(
            items=[known[item_id] for item_id in request.item_ids if item_id in known],
            unknown_item_ids=[item_id for item_id in request.item_ids if item_id not in known],
            release_id=self._next_release_id(),
        )

    def SearchItems(
        self, request: catalogue_pb2.SearchItemsRequest, context: grpc.ServicerContext
    ) -> catalogue_pb2.SearchItemsResponse:
        self._receive(request, context)
        found = [item for item in self.items if request.title_contains.casefold() in item.title.casefold()]
        start = int(request.page_token or 0)
        end = start + request.page_size
        return catalogue_pb2.SearchItemsResponse(
            items=found[start:end],
            next_page_token=str(end) if end < len(found) else "",
            release_id=self._next_release_id(),
        )

    def GetReleaseSchema(
        self, request: catalogue_pb2.GetReleaseSchemaRequest, context: grpc.ServicerContext
    ) -> catalogue_pb2.GetReleaseSchemaResponse:
        self._receive(request, context)
        response = catalogue_pb2.GetReleaseSchemaResponse(release_id=self._next_release_id(), item_count=9)
        response.attributes.add(name="year", type=catalogue_pb2.AttributeType.ATTRIBUTE_TYPE_NUMBER, item_count=7)
        response.attributes.add(
            name="genres", type=catalogue_pb2.AttributeType.ATTRIBUTE_TYPE_LIST, item_count=8, distinct_count=0
        )
        return response

    def GetRelease(
        self, request: catalogue_pb2.GetReleaseRequest, context: grpc.ServicerContext
    ) -> catalogue_pb2.GetReleaseResponse:
        self._receive(request, context)
        return self.release

    def _recommendation(self, request: Any, context: grpc.ServicerContext, empty: Any) -> Any:
        self._receive(request, context)
        return empty if self.response is None else self.response

    def _receive(self, request: Any, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        self.received.set()
        self.on_request()
        self.peers.append(context.peer())
        self.metadata.append(dict(context.invocation_metadata()))
        if self.failures:
            failure = self.failures.pop(0)
            context.set_trailing_metadata(failure.trailing_metadata)
            context.abort(failure.code, failure.message)

    def _next_release_id(self) -> str:
        return self.release_ids.pop(0) if len(self.release_ids) > 1 else self.release_ids[0]


@contextmanager
def fake_gateway() -> Iterator[FakeGateway]:
    """Serve on a free port."""
    gateway = FakeGateway()
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    recommendation_pb2_grpc.add_RecommendationServiceServicer_to_server(gateway, server)
    catalogue_pb2_grpc.add_CatalogueServiceServicer_to_server(gateway, server)
    gateway.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield gateway
    finally:
        server.stop(None).wait()
