"""A real object storage with the S3 protocol and access keys, as a process: SeaweedFS."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from obstore.exceptions import BaseError
from obstore.store import ObjectStore, S3Store

from winnow.serving.local_stack import free_port

START_SECONDS = 60.0
ACCESS_KEY, SECRET_KEY = "winnow", "winnow-secret"


@dataclass(frozen=True)
class S3Server:
    url: str
    environment: dict[str, str]
    """What clients read."""
    store: ObjectStore

    def upload(self, releases: Path) -> None:
        """Copy a directory of releases, CURRENT last, as docs/kubernetes.md says."""
        paths = [path for path in releases.rglob("*") if path.is_file() and path.name != "CURRENT"]
        for path in [*paths, releases / "CURRENT"]:
            self.store.put(str(path.relative_to(releases)), path.read_bytes())


@contextmanager
def s3_server(directory: Path) -> Iterator[S3Server]:
    """Start a server on free ports with one bucket, and kill it in the end."""
    actions = ["Admin", "Read", "Write", "List"]
    keys = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
    (directory / "s3.json").write_text(
        json.dumps({"identities": [{"name": "winnow", "credentials": [keys], "actions": actions}]})
    )
    parts = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
             "s3.port", "s3.port.grpc")  # fmt: skip
    ports = {part: free_port("127.0.0.1") for part in parts}
    flags = [f"-{part}={port}" for part, port in ports.items()]
    weed = Path(sys.executable).parent / "weed"
    own = [f"-s3.config={directory / 's3.json'}", f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command = [str(weed), "server", "-s3", "-s3.port.iceberg=0", *own, *flags]
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3.port']}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    }
    url = "s3://winnow-releases/production"
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "HOME": str(directory)})
        try:
            store = S3Store.from_url(
                url,
                endpoint=environment["AWS_ENDPOINT_URL"],
                region=environment["AWS_REGION"],
                access_key_id=ACCESS_KEY,
                secret_access_key=SECRET_KEY,
                client_options={"allow_http": True},
                retry_config={"max_retries": 0},
            )
            give_up = time.monotonic() + START_SECONDS
            while True:
                try:
                    store.put("started", b"yes")  # makes the bucket, too
                    break
                except BaseError as error:
                    assert process.poll() is None, (directory / "log").read_text()[-2000:]
                    assert time.monotonic() < give_up, error
                    time.sleep(0.2)
            yield S3Server(url=url, environment=environment, store=store)
        finally:
            process.kill()
            process.wait()
