"""`winnow explain`: why an item is, or is not, recommended."""

from collections.abc import Mapping
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from winnow.client import AbsenceReason, Explanation, Item, RecommendationRequest, ScoreType
from winnow.commands.gateway_calls import (
    DEFAULT_TARGET,
    LogOfUser,
    Target,
    Timeout,
    UserOfLog,
    check_history_options,
    find_by_title,
    gateway_client,
    read_history,
)
from winnow.commands.log_options import reads_a_log
from winnow.commands.printable import printable
from winnow.logs.log_format import LogFormat

_REASONS = {
    AbsenceReason.UNKNOWN: "the release does not know it",
    AbsenceReason.EXCLUDED: "it is excluded",
    AbsenceReason.WATCHED: "it was watched",
    AbsenceReason.NOT_ALLOWED: "it is not one of the allowed items",
    AbsenceReason.FILTERED: "it does not match the filter",
    AbsenceReason.BELOW_CUT: "it scores too little",
    AbsenceReason.MISSED: "the approximate index has missed it",
    AbsenceReason.RETIRED: "it is retired",
    AbsenceReason.DISMISSED: "the user has dismissed it",
    AbsenceReason.OTHER: "for a reason that this version does not know",
}
_SCORES = {
    ScoreType.WATCH_PROBABILITY: "probability",
    ScoreType.WATCH_SECONDS: "expected seconds",
    ScoreType.CANDIDATE_LOGIT: "logit",
    ScoreType.POPULARITY: "share of all watches",
    ScoreType.UNKNOWN: "score",
}


@reads_a_log
def explain(
    log_format: LogFormat,
    item_ids: Annotated[list[str] | None, typer.Argument(help="Watched item ids, oldest first.")] = None,
    item: Annotated[str | None, typer.Option(help="The id of the item to explain.")] = None,
    item_title: Annotated[str | None, typer.Option(help="Its title instead, as in `winnow recommend`.")] = None,
    title: Annotated[list[str] | None, typer.Option(help="Add a watch by its title, as in `winnow recommend`.")] = None,
    interactions: LogOfUser = None,
    user: UserOfLog = None,
    watches: Annotated[int, typer.Option(min=1, max=50, help="Of how many watches to show the contribution.")] = 20,
    exclude: Annotated[list[str] | None, typer.Option(help="An excluded item id. May be given several times.")] = None,
    filter_: Annotated[str, typer.Option("--filter", help="The filter of the recommendation.")] = "",
    allow: Annotated[list[str] | None, typer.Option(help="An allowed item id. May be given several times.")] = None,
    include_watched: Annotated[bool, typer.Option(help="Do not leave out watched items.")] = False,
    target: Target = DEFAULT_TARGET,
    timeout_seconds: Timeout = 5.0,
) -> None:
    """Print why an item is, or is not, among the recommendations for a watch history."""
    if (item is None) is (item_title is None):
        raise typer.BadParameter("one of --item and --item-title is needed")
    check_history_options(item_ids, title, interactions, user)
    with gateway_client("explain", target, timeout_seconds) as winnow:
        history = read_history(winnow, "explain", item_ids, title, interactions, user, log_format)
        explained = item if item is not None else find_by_title(winnow, item_title or "", "explain").item_id
        request = RecommendationRequest(
            history,
            filter=filter_,
            allowed_item_ids=allow,
            excluded_item_ids=exclude or (),
            include_watched=include_watched,
        )
        answer = winnow.explain(request, explained, watch_count=watches)
        titles = winnow.items([explained, *(contribution.item_id for contribution in answer.contributions)]).by_id
    print_explanation(Console(emoji=False), explained, answer, titles)


def print_explanation(console: Console, item_id: str, answer: Explanation, titles: Mapping[str, Item]) -> None:
    """Print where the item is in retrieval and ranking, or why it is not, and what each watch contributed."""

    def shown(of: str) -> str:
        return printable(titles[of].title if of in titles else of)

    for line in (f"Item: {shown(item_id)}", _retrieval(answer), _ranking(answer)):
        if line:
            console.print(line, markup=False, highlight=False)
    if answer.contributions:
        table = Table("watched", "in retrieval", "in ranking", "item id")
        for watch in answer.contributions:
            table.add_row(
                Text(shown(watch.item_id)),
                f"{watch.candidate_logit:+.3g}",
                f"{watch.ranking_score:+.3g}",
                Text(printable(watch.item_id)),
            )
        console.print(table)
        console.print("What the scores lose if that one watch is left out.")
    console.print(f"Release {answer.release_id}, {answer.timing.total_milliseconds:.1f} ms", highlight=False)


def _retrieval(answer: Explanation) -> str:
    found = answer.retrieval
    if found.place is not None:
        where = f"place {found.place} of {found.retrieved_count} candidates"
    else:
        where = "no candidate: " + ", ".join(_REASONS[reason] for reason in found.absence_reasons)
    if found.sources:
        where += "; proposed by " + ", ".join(f"{named.source} (place {named.place})" for named in found.sources)
    if found.unmet_conditions:
        where += f" ({', '.join(found.unmet_conditions)})"
    if found.score is None:
        return f"Retrieval: {where}"
    score = f"{_SCORES[found.score_type or ScoreType.UNKNOWN]} {found.score:.4g}"
    cut = "" if found.cut_score is None else f", the last candidate has {found.cut_score:.4g}"
    return f"Retrieval: {where}; {score}{cut}"


def _ranking(answer: Explanation) -> str:
    found = answer.ranking
    if found is None:
        return ""
    where = f"place {found.place} of {found.ranked_count}"
    if answer.retrieval.place is None and not answer.retrieval.sources:
        where = f"would be place {found.place} among {found.ranked_count} candidates"
    return f"Ranking: {where}; {_SCORES[found.score_type]} {found.score:.4g}"
