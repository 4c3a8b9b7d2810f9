"""Turns templates into answers."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from winnow.client import ScoreType
from winnow.explorer import words
from winnow.explorer.failures import Failure
from winnow.explorer.gateways import Titles
from winnow.explorer.histories import latest_first, shown_time


def make_environment() -> Environment:
    """Read the templates of this package. Everything that they show is escaped."""
    environment = Environment(
        loader=PackageLoader("winnow.explorer"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        signed=shown_change,
        score=shown_score,
        milliseconds=lambda value: f"{value:.1f}" if value < 100 else f"{value:.0f}",
        thousands=lambda value: f"{value:,}",
        shown_time=shown_time,
        latest_first=latest_first,
    )
    environment.globals.update(words=words, no_titles=Titles({}))
    environment.tests["failure"] = lambda value: isinstance(value, Failure)
    return environment


def shown_score(score: float, score_type: ScoreType | None) -> str:
    """As many digits as tell neighbours in a list apart: probabilities and shares are small numbers."""
    if score_type in (ScoreType.WATCH_PROBABILITY, ScoreType.POPULARITY):
        return f"{score:.5f}"
    return f"{score:.3f}" if abs(score) < 100 else f"{score:,.0f}"


def shown_change(change: float, score_type: ScoreType | None) -> str:
    """The change of a score, with its sign."""
    sign = "+" if change >= 0 else "\N{MINUS SIGN}"
    return sign + shown_score(abs(change), score_type)


class Renderer:
    """Renders pages that all know the same facts, such as the names of the targets."""

    def __init__(self, **facts: Any) -> None:
        self._environment = make_environment()
        self._environment.globals.update(facts)

    def page(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """Render a template as an answer."""
        return HTMLResponse(self._environment.get_template(template).render(**values), status)
