"""Where the time of an answer went, as the parts of a bar."""

from dataclasses import dataclass

from winnow.client import Timing

# The bar is drawn in these units, whatever its width on the page.
BAR_UNITS = 1_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One step."""

    key: str
    """Its colour in the style sheet."""
    label: str
    milliseconds: float
    start: float
    width: float
    """In the units of the bar."""


def parts_of(timing: Timing) -> list[Part]:
    """Return the steps in the order in which they are taken; what no step accounts for comes last."""
    retrieve_rest = _rest(timing.retrieve_milliseconds, timing.retrieve_compute_milliseconds)
    rank_rest = _rest(timing.rank_milliseconds, timing.rank_compute_milliseconds)
    steps = [
        ("users", "Stored history", timing.users_milliseconds),
        ("wait", "Waiting for a batch", timing.wait_milliseconds),
        ("retrieve", "Retrieval: network and queue", retrieve_rest),
        ("retrieve-compute", "Retrieval: computing", timing.retrieve_compute_milliseconds),
        ("sources", "Further sources", timing.sources_milliseconds),
        ("rank", "Ranking: network and queue", rank_rest),
        ("rank-compute", "Ranking: computing", timing.rank_compute_milliseconds),
        ("explain", "Explaining", timing.explain_milliseconds),
        ("select", "Choosing the items", timing.select_milliseconds),
    ]
    taken = [(key, label, milliseconds) for key, label, milliseconds in steps if milliseconds is not None]
    named = sum(milliseconds for _, _, milliseconds in taken)
    taken.append(("rest", "Reading and writing", max(0.0, timing.total_milliseconds - named)))
    whole = max(named, timing.total_milliseconds) or 1.0
    parts, start = [], 0.0
    for key, label, milliseconds in taken:
        width = milliseconds / whole * BAR_UNITS
        parts.append(Part(key=key, label=label, milliseconds=milliseconds, start=start, width=width))
        start += width
    return parts


def _rest(whole: float | None, part: float | None) -> float | None:
    return None if whole is None else max(0.0, whole - (part or 0.0))
