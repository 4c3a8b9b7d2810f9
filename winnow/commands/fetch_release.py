"""`winnow fetch-release`: the current release of an object storage, into the directory that services read."""

import math
import time
from pathlib import Path
from typing import Annotated

import structlog
import typer

from winnow.serving.logs import LogFormat, configure_logs


def fetch_release(
    source: Annotated[
        str,
        typer.Argument(envvar="WINNOW_RELEASE_SOURCE", help="s3://BUCKET/PREFIX, laid out as a releases directory."),
    ],
    releases: Annotated[Path, typer.Option(help="Directory of releases to fetch it into.")] = Path("releases"),
    poll_seconds: Annotated[
        float, typer.Option(min=0, help="Look for another release this often, for ever. 0: fetch once, and end.")
    ] = 0,
    keep: Annotated[
        int,
        typer.Option(
            min=0,
            help="Afterwards remove older releases here, but this many and those in use. 0: none.",
        ),
    ] = 0,
    log_format: Annotated[LogFormat, typer.Option(help="`human` or `json`.")] = "human",
) -> None:
    """Copy the current release of an object storage, check its hashes, and only then make it current here.

    The usual AWS_ variables say where the storage is and who asks: AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY, or the role of a Kubernetes service account.
    """
    from winnow.release.experiment import ExperimentError
    from winnow.release.object_storage import fetch_current_release, open_storage, remove_old_releases
    from winnow.release.reader import ReleaseError
    from winnow.serving.local_stack import forward_signals_as_exit

    if not math.isfinite(poll_seconds):
        raise typer.BadParameter(f"--poll-seconds is {poll_seconds:g}, not a number of seconds")
    try:
        storage = open_storage(source)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    configure_logs("fetch_release", log_format, "info")
    log = structlog.get_logger(__name__)
    # A process with the id 1, as in a container, would not be ended by a signal.
    forward_signals_as_exit()
    while True:
        failed = False
        started = time.monotonic()
        try:
            fetched = fetch_current_release(storage, releases)
            if fetched is not None:
                log.info(
                    "release fetched",
                    release_id=fetched.release_id,
                    mebibytes=round(fetched.downloaded_bytes / 2**20, 1),
                    seconds=round(time.monotonic() - started, 1),
                )
        except (ReleaseError, OSError) as error:
            log.error("release not fetched", reason=str(error))
            failed = True
        try:
            if keep and not failed and (removed := remove_old_releases(releases, keep)):
                log.info("releases removed", release_ids=removed)
        except (ReleaseError, ExperimentError, OSError) as error:
            log.error("old releases not removed", reason=str(error))
            failed = True
        if not poll_seconds:
            raise typer.Exit(int(failed))
        time.sleep(poll_seconds)
