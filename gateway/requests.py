"""Requests as the pipeline takes them: limits checked, item ids turned into rows of a release."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.checks import Violations
from gateway.filters import PermittedRows
from gateway.selection_rules import NOTHING_SELECTED, GivenSelection, SelectionReader, SelectionRules
from gateway.served_catalogue import ServedCatalogue
from gateway.settings import MAX_LOOKED_UP_ITEMS, GatewaySettings
from gateway.users import StoredHistory
from winnow.catalogue.vocabulary import MAX_ITEM_ID_BYTES
from winnow.contexts import RequestContexts
from winnow.history import NO_ROWS, UNKNOWN_TIME, UNKNOWN_WEIGHT, RaggedRows, Rows, WatchHistories
from winnow.queries import Restriction

DEFAULT_ITEMS, MAX_ITEMS = 20, 100
DEFAULT_CANDIDATES, MAX_CANDIDATES = 200, 1000
MAX_SIMILAR_TO = 100
DEFAULT_EXPLAINED_WATCHES, MAX_EXPLAINED_WATCHES = 20, 50


@dataclass(kw_only=True, slots=True)
class GivenHistory:
    """The watches of a request as they were given, oldest first. Nothing is read of a history that is too long."""

    length: int
    item_ids: Sequence[str] = ()
    weights: Sequence[float | None] = ()
    """One a watch, or none at all."""
    times: Sequence[int | None] = ()
    """Seconds since 1970, one a watch, or none at all."""
    stored: StoredHistory | None = None
    """What the store has of the user; None where the request names none."""

    def with_stored_watches(self, limit: int) -> "GivenHistory":
        """Return the stored watches and then the given ones: of both together the latest `limit`."""
        stored = self.stored
        if stored is None or not stored.item_ids:
            return self
        first = max(0, len(stored.item_ids) + self.length - limit)
        own_weights: Sequence[float | None] = self.weights or [None] * self.length
        own_times: Sequence[int | None] = self.times or [None] * self.length
        return GivenHistory(
            length=len(stored.item_ids) - first + self.length,
            item_ids=[*stored.item_ids[first:], *self.item_ids],
            weights=[*stored.weights[first:], *own_weights],
            times=[*stored.times[first:], *own_times],
            stored=stored,
        )


@dataclass(kw_only=True, slots=True)
class GivenContext:
    """What else the caller of a ranking knows."""

    request_timestamp_seconds: int | None
    unclicked_item_ids: Sequence[str]


@dataclass(kw_only=True, slots=True)
class GivenRestriction:
    """Which items a caller wants, as it was given."""

    filter: str = ""
    allowed_item_ids: Sequence[str] = ()


NO_RESTRICTION = Restriction()


class OwnCandidates(NamedTuple):
    """The candidates that a request brings along, as far as they are known."""

    rows: Rows
    places: NDArray[np.int32]
    """In the list as it was given, from 1."""


@dataclass(kw_only=True, eq=False, slots=True)
class CandidateRequest:
    """A request for candidates, ranked or not. Rows are int32."""

    history: WatchHistories
    """One history."""
    item_count: int
    """How many items to answer with."""
    candidate_count: int
    """How many candidates to retrieve for that."""
    excluded: Rows
    """Rows that must not be in the answer, the dismissed ones among them, and the watched ones unless asked for."""
    deadline: float
    """Event-loop time by which the stages have to be done."""
    require_ranked: bool = False
    context: RequestContexts | None = None
    """Of one request; None where the release does not read it."""
    restriction: Restriction = NO_RESTRICTION
    """Which rows may be in the answer, as the caller says."""
    permitted: PermittedRows | None = None
    """These rows; None are all. Found when the request enters the pipeline."""
    own_candidates: OwnCandidates | None = None
    """Checked against neither the exclusions nor the permitted rows; None where there are none."""
    rules: SelectionRules | None = None
    """Caps, pinned items and diversity; None where there are none. Ruled out items are still among the pinned ones when
    the request enters the pipeline."""
    stored: StoredHistory | None = None
    """What the store has of the user, already in `history`; None where the request names no user."""
    unknown_history_count: int
    unknown_excluded_count: int
    unknown_allowed_count: int = 0
    unknown_candidate_count: int = 0
    unknown_pinned_count: int = 0


@dataclass(kw_only=True, eq=False, slots=True)
class RankRequest:
    """A request for the scores of given rows."""

    history: WatchHistories
    """One history."""
    rows: Rows
    """The rows to score, without duplicates."""
    deadline: float
    """Event-loop time by which the ranking stage has to be done."""
    context: RequestContexts | None = None
    """Of one request; None where the release does not read it."""
    stored: StoredHistory | None = None
    """As in CandidateRequest."""
    unknown_history_count: int
    unknown_item_count: int


class RequestReader:
    """Checks requests against the gateway's limits. Every method raises InvalidRequestError naming what is wrong."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.max_history_items = settings.max_history_items
        self._candidate_count = settings.candidate_count
        self._max_excluded_items = settings.max_excluded_items
        self._max_allowed_items = settings.max_allowed_items
        self._max_candidate_items = settings.max_candidate_items
        self._max_ranked_items = settings.max_ranked_items
        self._selection = SelectionReader(settings.default_caps, settings.default_diversity)

    def recommend(
        self,
        catalogue: ServedCatalogue,
        deadline: float,
        history: GivenHistory,
        *,
        item_count: int,
        excluded_item_ids: Sequence[str],
        restriction: GivenRestriction,
        include_watched: bool,
        require_ranked: bool,
        context: GivenContext,
        candidate_item_ids: Sequence[str] = (),
        selection: GivenSelection = NOTHING_SELECTED,
    ) -> CandidateRequest:
        """Read a request for recommendations."""
        violations = Violations()
        item_count = violations.check_count("item_count", item_count, DEFAULT_ITEMS, MAX_ITEMS)
        history = self._check_history(history, violations)
        excluded_item_ids = violations.check_ids("excluded_item_ids", excluded_item_ids, self._max_excluded_items)
        restriction = self._check_restriction(restriction, catalogue, violations)
        unclicked_ids = self._check_context(context, history.stored, violations)
        candidate_item_ids = violations.check_ids("candidate_item_ids", candidate_item_ids, self._max_candidate_items)
        if selection is not NOTHING_SELECTED:
            positions = item_count if item_count > 0 else MAX_ITEMS
            self._selection.check(selection, positions, catalogue.schema, violations)
        violations.refuse()
        request = _candidates(catalogue, deadline, history, item_count, excluded_item_ids, restriction, include_watched)
        request.candidate_count = max(item_count, self._candidate_count)
        request.require_ranked = require_ranked
        request.context = _context(context.request_timestamp_seconds, unclicked_ids, catalogue)
        if candidate_item_ids:
            request.own_candidates = OwnCandidates(*catalogue.vocabulary.rows_and_places(candidate_item_ids))
            request.unknown_candidate_count = len(candidate_item_ids) - len(request.own_candidates.rows)
        request.rules, request.unknown_pinned_count = self._selection.read(selection, catalogue.vocabulary)
        return request

    def retrieve(
        self,
        catalogue: ServedCatalogue,
        deadline: float,
        history: GivenHistory,
        *,
        item_count: int,
        excluded_item_ids: Sequence[str],
        restriction: GivenRestriction,
        include_watched: bool,
    ) -> CandidateRequest:
        """Read a request for candidates."""
        violations = Violations()
        item_count = violations.check_count("item_count", item_count, DEFAULT_CANDIDATES, MAX_CANDIDATES)
        history = self._check_history(history, violations)
        excluded_item_ids = violations.check_ids("excluded_item_ids", excluded_item_ids, self._max_excluded_items)
        restriction = self._check_restriction(restriction, catalogue, violations)
        violations.refuse()
        return _candidates(catalogue, deadline, history, item_count, excluded_item_ids, restriction, include_watched)

    def rank(
        self,
        catalogue: ServedCatalogue,
        deadline: float,
        history: GivenHistory,
        *,
        item_ids: Sequence[str],
        context: GivenContext,
    ) -> RankRequest:
        """Read a request for scores."""
        violations = Violations()
        if not item_ids:
            violations.add("item_ids", "is empty: there is nothing to score")
        history = self._check_history(history, violations)
        item_ids = violations.check_ids("item_ids", item_ids, self._max_ranked_items)
        unclicked_ids = self._check_context(context, history.stored, violations)
        violations.refuse()
        rows, unknown_item_count = catalogue.vocabulary.rows(item_ids)
        watched, unknown_history_count = _history(history, catalogue)
        return RankRequest(
            history=watched,
            rows=_without_duplicates(rows),
            deadline=deadline,
            context=_context(context.request_timestamp_seconds, unclicked_ids, catalogue),
            stored=history.stored,
            unknown_history_count=unknown_history_count,
            unknown_item_count=unknown_item_count,
        )

    def similar(
        self,
        catalogue: ServedCatalogue,
        deadline: float,
        *,
        item_ids: Sequence[str],
        item_count: int,
        excluded_item_ids: Sequence[str],
        restriction: GivenRestriction,
    ) -> CandidateRequest:
        """Read a request for similar items: one for the candidates of who watched the given items, and nothing else."""
        violations = Violations()
        if not item_ids:
            violations.add("item_ids", "is empty: there is nothing to be similar to")
        item_ids = violations.check_ids("item_ids", item_ids, MAX_SIMILAR_TO)
        item_count = violations.check_count("item_count", item_count, DEFAULT_ITEMS, MAX_ITEMS)
        excluded_item_ids = violations.check_ids("excluded_item_ids", excluded_item_ids, self._max_excluded_items)
        restriction = self._check_restriction(restriction, catalogue, violations)
        violations.refuse()
        watched = GivenHistory(length=len(item_ids), item_ids=item_ids)
        return _candidates(
            catalogue, deadline, watched, item_count, excluded_item_ids, restriction, include_watched=False
        )

    @staticmethod
    def explained(item_id: str, watch_count: int) -> int:
        """Check the item of an explanation and return of how many watches to tell the contribution."""
        violations = Violations()
        violations.check_each_id("item_id", [item_id])
        watch_count = violations.check_count(
            "watch_count", watch_count, DEFAULT_EXPLAINED_WATCHES, MAX_EXPLAINED_WATCHES
        )
        violations.refuse()
        return watch_count

    @staticmethod
    def look_up(item_ids: Sequence[str]) -> Sequence[str]:
        """Read the ids of a look-up."""
        violations = Violations()
        item_ids = violations.check_ids("item_ids", item_ids, MAX_LOOKED_UP_ITEMS)
        violations.refuse()
        return item_ids

    @staticmethod
    def search(title_contains: str, page_size: int) -> int:
        """Check a search and return the size of its page."""
        violations = Violations()
        page_size = violations.check_page_size("page_size", page_size, DEFAULT_ITEMS, MAX_ITEMS)
        if not 1 <= len(title_contains.encode()) <= MAX_ITEM_ID_BYTES:
            violations.add("title_contains", f"has to be 1 to {MAX_ITEM_ID_BYTES} bytes long")
        violations.refuse()
        return page_size

    def _check_history(self, history: GivenHistory, violations: Violations) -> GivenHistory:
        """Check what was given and return it after what is stored."""
        if history.length > self.max_history_items:
            violations.add("history", f"has {history.length} watches: at most {self.max_history_items}")
            return history
        violations.check_each_id("history[{}].item_id", history.item_ids)
        violations.check_weights("history[{}].weight", history.weights)
        violations.check_times("history[{}].timestamp_seconds", history.times)
        return history.with_stored_watches(self.max_history_items)

    def _check_restriction(
        self, given: GivenRestriction, catalogue: ServedCatalogue, violations: Violations
    ) -> GivenRestriction:
        """Return the restriction with the filter in canonical form."""
        return GivenRestriction(
            filter=catalogue.filters.read(given.filter, violations),
            allowed_item_ids=violations.check_ids("allowed_item_ids", given.allowed_item_ids, self._max_allowed_items),
        )

    def _check_context(
        self, context: GivenContext, stored: StoredHistory | None, violations: Violations
    ) -> Sequence[str]:
        """Return the items without a click: those that are stored, then those that were given."""
        violations.check_times("request_timestamp_seconds", [context.request_timestamp_seconds])
        given = violations.check_ids("unclicked_item_ids", context.unclicked_item_ids, self.max_history_items)
        if stored is None or not stored.unclicked_item_ids:
            return given
        return [*stored.unclicked_item_ids, *given][-self.max_history_items :]


def _candidates(
    catalogue: ServedCatalogue,
    deadline: float,
    history: GivenHistory,
    item_count: int,
    excluded_item_ids: Sequence[str],
    restriction: GivenRestriction,
    include_watched: bool,
) -> CandidateRequest:
    watched, unknown_history_count = _history(history, catalogue)
    excluded, unknown_excluded_count = NO_ROWS if include_watched else watched.rows, 0
    if excluded_item_ids:
        given, unknown_excluded_count = catalogue.vocabulary.rows(excluded_item_ids)
        excluded = np.concatenate([given, excluded])
    if history.stored is not None and history.stored.dismissed_item_ids:
        dismissed, _ = catalogue.vocabulary.rows(history.stored.dismissed_item_ids)
        excluded = np.concatenate([excluded, dismissed])
    allowed, unknown_allowed_count = None, 0
    if restriction.allowed_item_ids:
        allowed, unknown_allowed_count = catalogue.vocabulary.rows(restriction.allowed_item_ids)
    return CandidateRequest(
        history=watched,
        item_count=item_count,
        candidate_count=item_count,
        excluded=excluded,
        deadline=deadline,
        restriction=Restriction(filter=restriction.filter, allowed=allowed),
        stored=history.stored,
        unknown_history_count=unknown_history_count,
        unknown_excluded_count=unknown_excluded_count,
        unknown_allowed_count=unknown_allowed_count,
    )


def _history(given: GivenHistory, catalogue: ServedCatalogue) -> tuple[WatchHistories, int]:
    """Return the known watches as one history, and how many are unknown and left out."""
    rows, unknown_count = catalogue.vocabulary.rows(given.item_ids)
    weights = times = None
    if given.weights:
        weights = np.array([UNKNOWN_WEIGHT if weight is None else weight for weight in given.weights], np.float32)
    if given.times:
        times = np.array([UNKNOWN_TIME if time is None else time for time in given.times], np.int64)
    if unknown_count and (weights is not None or times is not None):
        known = np.array([item_id in catalogue.vocabulary for item_id in given.item_ids])
        weights = None if weights is None else weights[known]
        times = None if times is None else times[known]
    return WatchHistories.of_one(rows, weights, times), unknown_count


def _context(
    request_timestamp_seconds: int | None, unclicked_ids: Sequence[str], catalogue: ServedCatalogue
) -> RequestContexts | None:
    if not catalogue.ranking_reads_contexts:
        return None
    now = int(time.time()) if request_timestamp_seconds is None else request_timestamp_seconds
    unclicked, _ = catalogue.vocabulary.rows(unclicked_ids)
    return RequestContexts(np.array([now]), RaggedRows(unclicked, np.array([0, len(unclicked)])))


def _without_duplicates(rows: Rows) -> Rows:
    _, first = np.unique(rows, return_index=True)
    return rows[np.sort(first)]
