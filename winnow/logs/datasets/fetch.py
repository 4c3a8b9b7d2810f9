"""Fetches an archive and verifies it before it is read."""

import hashlib
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

FETCH_TIMEOUT_SECONDS = 300


class FetchError(RuntimeError):
    """An archive could not be fetched or is not the expected one; the message says why."""


def fetch_from_package_index(requirement: str, directory: Path) -> Path:
    """Download one wheel, without its dependencies, into an empty directory. Raises FetchError."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(directory), requirement]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=FETCH_TIMEOUT_SECONDS)  # noqa: S603
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        lines = error.stderr.strip().splitlines() if isinstance(error.stderr, str) else []
        reason = lines[-1] if lines else error
        raise FetchError(f"{requirement} could not be fetched from the Python package index: {reason}") from None
    return next(directory.iterdir())


def fetch_from_url(url: str, directory: Path) -> Path:
    """Download one file over HTTPS into a directory. Raises FetchError."""
    path = directory / url.rsplit("/", 1)[1]
    try:
        with urllib.request.urlopen(url, timeout=30) as response, path.open("wb") as file:  # noqa: S310 - our constants
            shutil.copyfileobj(response, file)
    except (urllib.error.URLError, OSError) as error:
        raise FetchError(f"{url} could not be fetched: {error}") from None
    return path


def verify(path: Path, *, algorithm: str, expected: str) -> None:
    """Raise FetchError unless the file has the expected digest."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, algorithm).hexdigest()
    if digest != expected:
        raise FetchError(f"{path.name} has the {algorithm} {digest}, not {expected}: it is damaged or another version")
