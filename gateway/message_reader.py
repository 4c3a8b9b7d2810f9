"""Requests from their messages, for a release and with the stored history of their user."""

from collections.abc import Sequence

from gateway.explanation import ExplainRequest
from gateway.explanation_messages import read_explained
from gateway.request_messages import given_context, given_history, given_restriction, given_selection
from gateway.requests import CandidateRequest, GivenHistory, RankRequest, RequestReader
from gateway.served_catalogue import ServedCatalogue
from gateway.users import StoredHistory
from winnow.rpc.errors import InvalidRequestError
from winnow.v1 import recommendation_pb2


class MessageReader:
    """Reads each kind of message. Deadlines are event-loop times. All methods raise InvalidRequestError."""

    def __init__(self, reader: RequestReader) -> None:
        self._reader = reader

    def recommend(
        self,
        message: recommendation_pb2.RecommendItemsRequest,
        catalogue: ServedCatalogue,
        deadline: float,
        stored: StoredHistory | None,
    ) -> CandidateRequest:
        """Read a RecommendItemsRequest."""
        return self._recommend(message, catalogue, deadline, self._history(message.history, stored))

    def retrieve(
        self,
        message: recommendation_pb2.RetrieveItemsRequest,
        catalogue: ServedCatalogue,
        deadline: float,
        stored: StoredHistory | None,
    ) -> CandidateRequest:
        """Read a RetrieveItemsRequest."""
        return self._reader.retrieve(
            catalogue,
            deadline,
            self._history(message.history, stored),
            item_count=message.item_count,
            excluded_item_ids=message.excluded_item_ids,
            restriction=given_restriction(message),
            include_watched=message.include_watched,
        )

    def rank(
        self,
        message: recommendation_pb2.RankItemsRequest,
        catalogue: ServedCatalogue,
        deadline: float,
        stored: StoredHistory | None,
    ) -> RankRequest:
        """Read a RankItemsRequest."""
        return self._reader.rank(
            catalogue,
            deadline,
            self._history(message.history, stored),
            item_ids=message.item_ids,
            context=given_context(message),
        )

    def similar(
        self,
        message: recommendation_pb2.SimilarItemsRequest,
        catalogue: ServedCatalogue,
        deadline: float,
        _stored: StoredHistory | None,
    ) -> CandidateRequest:
        """Read a SimilarItemsRequest; there is no user in it."""
        return self._reader.similar(
            catalogue,
            deadline,
            item_ids=message.item_ids,
            item_count=message.item_count,
            excluded_item_ids=message.excluded_item_ids,
            restriction=given_restriction(message),
        )

    def explain(
        self,
        message: recommendation_pb2.ExplainItemRequest,
        catalogue: ServedCatalogue,
        deadline: float,
        stored: StoredHistory | None,
    ) -> ExplainRequest:
        """Read an ExplainItemRequest. Violations of the request within it are named as such."""
        watch_count = self._reader.explained(message.item_id, message.watch_count)
        given = self._history(message.request.history, stored)
        try:
            recommendation = self._recommend(message.request, catalogue, deadline, given)
        except InvalidRequestError as error:
            raise error.within("request") from None
        watched = given.with_stored_watches(self._reader.max_history_items)
        return read_explained(message, recommendation, watch_count, catalogue, watched.item_ids)

    def _recommend(
        self,
        message: recommendation_pb2.RecommendItemsRequest,
        catalogue: ServedCatalogue,
        deadline: float,
        history: GivenHistory,
    ) -> CandidateRequest:
        return self._reader.recommend(
            catalogue,
            deadline,
            history,
            item_count=message.item_count,
            excluded_item_ids=message.excluded_item_ids,
            restriction=given_restriction(message),
            include_watched=message.include_watched,
            require_ranked=message.require_ranked,
            context=given_context(message),
            candidate_item_ids=message.candidate_item_ids,
            selection=given_selection(message),
        )

    def _history(self, watches: Sequence[recommendation_pb2.Watch], stored: StoredHistory | None) -> GivenHistory:
        return given_history(watches, stored, self._reader.max_history_items)
