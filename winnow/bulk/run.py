"""The run of `winnow recommend --users`: reads the log, asks, shows how far it is, writes the file."""

import asyncio
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from winnow.bulk.parts import OutputError, PartedFile
from winnow.bulk.users import Pace, UserRecommendations
from winnow.client import AsyncWinnowClient, RecommendationRequest
from winnow.logs.interactions import read_interactions
from winnow.logs.log_format import PLAIN_LOG, LogFormat

DEFAULT_PACE = Pace()


def recommend_users(
    log_path: Path,
    output: Path,
    asked: RecommendationRequest,
    *,
    target: str,
    timeout_seconds: float,
    console: Console,
    pace: Pace = DEFAULT_PACE,
    log_format: LogFormat = PLAIN_LOG,
) -> Counter[str]:
    """Write recommendations for every user of a log and return how many users have which status.

    `asked` is the request of every user, but for the history and what follows from it.

    Continues a run that was stopped. Raises InputFileError where the log cannot be read, OutputError where the output
    cannot be written, WinnowError where the gateway does not answer: what is answered by then is kept.
    """
    if output.suffix != ".parquet":
        raise OutputError(f"{output}: the name must end in .parquet")
    log = read_interactions(log_path, log_format=log_format)
    for remark in log.rows.remarks():
        console.print(remark, markup=False, highlight=False, soft_wrap=True)
    part_count = -(-len(log.user_ids) // pace.users_per_part)
    job = {"log": log.fingerprint, "users_per_part": pace.users_per_part, **asdict(asked)}
    file = PartedFile(output, part_count, job)
    missing = file.open()
    statuses = Counter[str]()
    for part in set(range(part_count)) - set(missing):
        statuses += _statuses(file, part)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("users"), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=len(log.user_ids), completed=statuses.total())

        async def make() -> None:
            async with AsyncWinnowClient(target, timeout_seconds=timeout_seconds) as client:
                recommendations = UserRecommendations(log, asked, file, client, pace)
                await recommendations.make(missing, lambda count: progress.advance(bar, count))

        asyncio.run(make())
    for part in missing:
        statuses += _statuses(file, part)
    file.join()
    return statuses


def _statuses(file: PartedFile, part: int) -> Counter[str]:
    users = file.read(part, ["user_id", "status"]).unique("user_id")
    return Counter(users["status"].to_list())
