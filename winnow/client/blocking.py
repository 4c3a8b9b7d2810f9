"""The Python client for back-end services: plain ids in, typed answers out.

with WinnowClient("localhost:50050") as winnow:
answer = winnow.recommend(["Alien (1979)", "Blade Runner (1982)"], count=10)
for item in answer.items:
print(item.item_id, item.score)
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from winnow.rpc.credentials import channel_credentials
from winnow.rpc.violations import Violation, violations_of
from winnow.v1 import catalogue_pb2, catalogue_pb2_grpc, recommendation_pb2, recommendation_pb2_grpc

Response = TypeVar("Response")

# Only UNAVAILABLE, so that shed load is not sent again; throttled, so that retries cannot bury a failing gateway.
_RETRIES = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.02s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
    "loadBalancingConfig": [{"round_robin": {}}],
}


class WinnowError(Exception):
    """A call failed.

    `code` is the gRPC status, `violations` names what is wrong with the request where it is INVALID_ARGUMENT.
    """

    def __init__(self, code: grpc.StatusCode, message: str, violations: list[Violation]) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.violations = violations


@dataclass(frozen=True, kw_only=True)
class ScoredItem:
    """One item of an answer; a higher score is better."""

    item_id: str
    score: float


@dataclass(frozen=True, kw_only=True)
class StageTimes:
    """Where the time of a call went, in milliseconds, as the gateway saw it."""

    total_milliseconds: float
    candidate_milliseconds: float
    candidate_compute_milliseconds: float
    ranking_milliseconds: float
    ranking_compute_milliseconds: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Items, best first, and what they were computed from."""

    items: list[ScoredItem]
    release_id: str
    times: StageTimes
    score_origin: str = "RANKING"
    """RANKING (probabilities), WATCH_SECONDS (expected), CANDIDATE (logits) or POPULARITY (shares of all watches)."""
    candidate_origin: str = "CALLER"
    """NETWORK, POPULAR or CALLER."""
    candidate_count: int = 0
    """How many candidates were ranked."""
    retrieved_count: int = 0
    """How many were retrieved; more than were ranked where too little time was left for all."""
    unknown_history_count: int = 0
    unknown_excluded_count: int = 0
    unknown_item_count: int = 0
    degradation: str | None = None
    """None, or the step down the ladder: CANDIDATE_ORDER, POPULAR_RANKED, POPULAR."""
    degradation_reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Item:
    """An item for display."""

    item_id: str
    title: str
    attributes: Mapping[str, str]


class WinnowClient:
    """Calls a gateway. Thread-safe; make one and keep it. Every method raises WinnowError.

    `timeout_seconds` is the deadline of each call, retries included. `target` may be a name with several addresses.
    `ca_file` turns TLS on, `certificate_file` and `key_file` are for mutual TLS; `token` is sent as a bearer token.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_seconds: float = 1.0,
        retries: bool = True,
        ca_file: Path | None = None,
        certificate_file: Path | None = None,
        key_file: Path | None = None,
        token: str | None = None,
    ) -> None:
        """Raise ValueError where a TLS file cannot be read."""
        options: list[tuple[str, Any]] = [
            ("grpc.enable_retries", int(retries)),
            # New gateways behind a name are found, and one that was away is tried again, within seconds, not minutes.
            ("grpc.dns_min_time_between_resolutions_ms", 1_000),
            ("grpc.max_reconnect_backoff_ms", 2_000),
        ]
        if retries:
            options.append(("grpc.service_config", json.dumps(_RETRIES)))
        credentials = channel_credentials(ca_file, certificate_file, key_file)
        if credentials is None:
            self._channel = grpc.insecure_channel(target, options=options)
        else:
            self._channel = grpc.secure_channel(target, credentials, options=options)
        self._metadata = (("authorization", f"Bearer {token}"),) if token is not None else ()
        self._timeout_seconds = timeout_seconds
        self._recommendation = recommendation_pb2_grpc.RecommendationServiceStub(self._channel)
        self._catalogue = catalogue_pb2_grpc.CatalogueServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def recommend(
        self,
        history: Iterable[str],
        *,
        history_weights: Iterable[float] = (),
        history_timestamps: Iterable[int] = (),
        request_time: int | None = None,
        unclicked_item_ids: Iterable[str] = (),
        count: int = 20,
        excluded_item_ids: Iterable[str] = (),
        include_watched: bool = False,
        require_ranked: bool = False,
    ) -> Answer:
        """Return the `count` best items for a watch history, oldest watch first; watched items only if asked for.

        `history_weights` says how much each watch counts, as in the training log (a rating, seconds watched), and
        `history_timestamps` when it was, in seconds since 1970: one a watch or none, for better answers.
        `request_time`, in seconds since 1970, is now unless given, and `unclicked_item_ids` what the user was shown
        before without clicking on it: some releases rank by them. `require_ranked` makes a degraded answer an error
        (UNAVAILABLE).
        """
        response = self._call(
            self._recommendation.RecommendItems,
            recommendation_pb2.RecommendItemsRequest(
                history=history,
                history_weights=history_weights,
                history_timestamps=history_timestamps,
                request_time=request_time,
                unclicked_item_ids=unclicked_item_ids,
                count=count,
                excluded_item_ids=excluded_item_ids,
                include_watched=include_watched,
                require_ranked=require_ranked,
            ),
        )
        step = response.degradation.step
        return Answer(
            items=_items(response.items),
            release_id=response.release_id,
            times=_times(response.timing),
            score_origin=_short(recommendation_pb2.ScoreOrigin.Name(response.score_origin), "SCORE_ORIGIN_"),
            candidate_origin=_short(
                recommendation_pb2.CandidateOrigin.Name(response.candidate_origin), "CANDIDATE_ORIGIN_"
            ),
            candidate_count=response.candidate_count,
            retrieved_count=response.retrieved_count,
            unknown_history_count=response.unknown_history_count,
            unknown_excluded_count=response.unknown_excluded_count,
            degradation=_short(recommendation_pb2.DegradationStep.Name(step), "DEGRADATION_STEP_") if step else None,
            degradation_reason=response.degradation.reason,
        )

    def retrieve(
        self,
        history: Iterable[str],
        *,
        history_weights: Iterable[float] = (),
        history_timestamps: Iterable[int] = (),
        count: int = 200,
        excluded_item_ids: Iterable[str] = (),
        include_watched: bool = False,
    ) -> Answer:
        """Return the `count` best candidates, in candidate order: for callers with a ranker of their own."""
        response = self._call(
            self._recommendation.RetrieveItems,
            recommendation_pb2.RetrieveItemsRequest(
                history=history,
                history_weights=history_weights,
                history_timestamps=history_timestamps,
                count=count,
                excluded_item_ids=excluded_item_ids,
                include_watched=include_watched,
            ),
        )
        return Answer(
            items=_items(response.items),
            release_id=response.release_id,
            times=_times(response.timing),
            score_origin=_short(recommendation_pb2.ScoreOrigin.Name(response.score_origin), "SCORE_ORIGIN_"),
            candidate_origin=_short(
                recommendation_pb2.CandidateOrigin.Name(response.candidate_origin), "CANDIDATE_ORIGIN_"
            ),
            retrieved_count=len(response.items),
            unknown_history_count=response.unknown_history_count,
            unknown_excluded_count=response.unknown_excluded_count,
        )

    def rank(
        self,
        history: Iterable[str],
        item_ids: Iterable[str],
        *,
        history_weights: Iterable[float] = (),
        history_timestamps: Iterable[int] = (),
        request_time: int | None = None,
        unclicked_item_ids: Iterable[str] = (),
    ) -> Answer:
        """Score the given items for a watch history; unknown ones are left out and counted."""
        response = self._call(
            self._recommendation.RankItems,
            recommendation_pb2.RankItemsRequest(
                history=history,
                item_ids=item_ids,
                history_weights=history_weights,
                history_timestamps=history_timestamps,
                request_time=request_time,
                unclicked_item_ids=unclicked_item_ids,
            ),
        )
        return Answer(
            items=_items(response.items),
            release_id=response.release_id,
            times=_times(response.timing),
            score_origin=_short(recommendation_pb2.ScoreOrigin.Name(response.score_origin), "SCORE_ORIGIN_"),
            candidate_count=len(response.items),
            unknown_history_count=response.unknown_history_count,
            unknown_item_count=response.unknown_item_count,
        )

    def items(self, item_ids: Iterable[str]) -> dict[str, Item]:
        """Return titles and further columns of the known ones among the given items, by id."""
        response = self._call(self._catalogue.GetItems, catalogue_pb2.GetItemsRequest(item_ids=item_ids))
        return {item.item_id: _item(item) for item in response.items}

    def search(self, title_contains: str, *, count: int = 20) -> list[Item]:
        """Find items by a part of their title, ignoring case, the most popular first."""
        response = self._call(
            self._catalogue.SearchItems,
            catalogue_pb2.SearchItemsRequest(title_contains=title_contains, count=count),
        )
        return [_item(item) for item in response.items]

    def _call(self, method: Callable[..., Response], request: object) -> Response:
        try:
            return method(request, timeout=self._timeout_seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            raise WinnowError(error.code(), error.details() or "", violations_of(error)) from None


def _items(items: Iterable[recommendation_pb2.ScoredItem]) -> list[ScoredItem]:
    return [ScoredItem(item_id=item.item_id, score=item.score) for item in items]


def _item(item: catalogue_pb2.Item) -> Item:
    return Item(item_id=item.item_id, title=item.title, attributes=dict(item.attributes))


def _times(timing: recommendation_pb2.Timing) -> StageTimes:
    return StageTimes(
        total_milliseconds=timing.total_microseconds / 1000,
        candidate_milliseconds=timing.candidate_microseconds / 1000,
        candidate_compute_milliseconds=timing.candidate_compute_microseconds / 1000,
        ranking_milliseconds=timing.ranking_microseconds / 1000,
        ranking_compute_milliseconds=timing.ranking_compute_microseconds / 1000,
    )


def _short(name: str, prefix: str) -> str:
    return name.removeprefix(prefix)
