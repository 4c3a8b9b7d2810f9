"""`winnow explore`: web pages for looking at a running recommender."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from winnow.client import Watch
from winnow.commands.failures import one_line_errors
from winnow.commands.gateway_calls import DEFAULT_TARGET, Target, watches_of
from winnow.commands.log_options import reads_a_log
from winnow.logs.log_format import LogFormat

if TYPE_CHECKING:
    from winnow.logs.interactions import Interactions

SUGGESTED_USERS = 5


class LogOfUsers:
    """The users of an interaction log: see UserLog."""

    def __init__(self, name: str, log: "Interactions") -> None:
        self.name = name
        self._log = log

    @property
    def some_users(self) -> Sequence[str]:
        """Users from all over the log."""
        step = max(len(self._log.user_ids) // SUGGESTED_USERS, 1)
        return list(self._log.user_ids[::step])[:SUGGESTED_USERS]

    def watches(self, user_id: str) -> Sequence[Watch] | None:
        """Return the watches of a user with their weights and times, oldest first."""
        try:
            return watches_of(self._log, user_id)
        except ValueError:
            return None


@reads_a_log
def explore(
    log_format: LogFormat,
    target: Target = DEFAULT_TARGET,
    beside: Annotated[
        str | None, typer.Option(help="Address of a second gateway, whose answers are compared with those of --target.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address that the pages are served on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port that the pages are served on. 0 for any free port.")
    ] = 8050,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(help="A name that browsers may call it by, besides localhost. May be given several times."),
    ] = None,
    interactions: Annotated[Path | None, typer.Option(help="A log whose users can be looked at.")] = None,
    candidate_target: Annotated[
        str | None, typer.Option(help="Address of the candidate service, for the page of health.")
    ] = None,
    ranking_target: Annotated[
        str | None, typer.Option(help="Address of the ranking service, for the page of health.")
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(help="A metrics endpoint: gateway=http://localhost:9464/metrics. Once for each service."),
    ] = None,
    timeout_seconds: Annotated[float, typer.Option(min=0.01, help="Deadline of each call.")] = 5.0,
    token: Annotated[str | None, typer.Option(envvar="WINNOW_TOKEN", help="Bearer token for the gateway.")] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(help="PEM certificates of the authority that signs the servers' certificates. Turns TLS on."),
    ] = None,
) -> None:
    """Serve pages that show what the recommender does: answers, explanations, the release, health. Read only."""
    from winnow.explorer.server import address_of, bind, serve
    from winnow.explorer.settings import ExplorerSettings

    if not host:
        # It would stand for all addresses of the machine.
        raise typer.BadParameter("--host is empty")
    with one_line_errors(ValueError):
        stages = {"candidate_service": candidate_target, "ranking_service": ranking_target}
        settings = ExplorerSettings(
            targets=(target,) if beside is None else (target, beside),
            host=host,
            port=port,
            allowed_hosts=tuple(allowed_host or ()),
            timeout_seconds=timeout_seconds,
            stage_targets={service: address for service, address in stages.items() if address},
            metrics_urls=metrics_urls(metrics or ()),
            user_log=None if interactions is None else read_user_log(interactions, log_format),
            token=token,
            ca_file=ca_file,
        )
        with bind(settings) as bound:
            Console(emoji=False).print(f"The explorer is at {address_of(bound)} Ctrl-C stops it.", highlight=False)
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(serve(settings, bound))


def read_user_log(path: Path, log_format: LogFormat) -> LogOfUsers:
    """Read a log as `winnow train` reads it. Raises ValueError that says what is wrong with it."""
    from winnow.logs.interactions import read_interactions

    return LogOfUsers(path.name, read_interactions(path, log_format=log_format))


def metrics_urls(given: Sequence[str]) -> dict[str, str]:
    """Read SERVICE=URL. Raises BadParameter."""
    from winnow.explorer.settings import SERVICES

    urls = {}
    for text in given:
        service, equals, url = text.partition("=")
        if not equals or service not in SERVICES:
            raise typer.BadParameter(f"--metrics {text}: write SERVICE=URL, with one of {', '.join(SERVICES)}")
        urls[service] = url
    return urls
