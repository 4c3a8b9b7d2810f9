"""The containers that fetch releases, with the commands of the manifests, against a real object storage."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.s3_server import S3Server, s3_server
from tests.manifests import named, of_kind, pod_of
from tests.releases import write_random_release
from tests.service.process import running
from winnow.release.reader import current_release_id, open_release
from winnow.v1 import status_pb2, status_pb2_grpc

pytestmark = pytest.mark.engines


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("storage")) as server:
        yield server


@pytest.fixture
def bucket(storage: S3Server, tmp_path: Path) -> Path:
    """What has been uploaded."""
    directory = tmp_path / "bucket"
    write_random_release(directory)
    storage.upload(directory)
    return directory


def start_container(name: str, releases: Path, storage: S3Server, **replaced: str) -> "subprocess.Popen[str]":
    """The init container of that name as a process: its command, and the variables of its ConfigMap and secret."""
    (container,) = [each for each in pod_of(named("cpu", "Deployment", "gateway"))["initContainers"]
                    if each["name"] == name]  # fmt: skip
    (source,) = [each["data"] for each in of_kind("cpu", "ConfigMap") if "WINNOW_RELEASE_SOURCE" in each["data"]]
    assert source["WINNOW_RELEASE_SOURCE"] == storage.url
    program, *arguments = container["command"]
    flags = [word.replace("/releases", str(releases)).replace("=30", "=0.2") for word in arguments]
    environment = {**os.environ, **source, **storage.environment, **replaced}
    command = [Path(sys.executable).parent / program, *flags]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def test_the_init_container_fetches_the_current_release(storage: S3Server, bucket: Path, tmp_path: Path) -> None:
    releases = tmp_path / "releases"
    process = start_container("fetch-release", releases, storage)
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    assert json.loads(log.splitlines()[-1])["event"] == "release fetched"
    fetched = current_release_id(releases)
    assert fetched == current_release_id(bucket)
    assert open_release(releases / fetched).manifest == open_release(bucket / fetched).manifest


@pytest.mark.parametrize(
    "wrong", [{"AWS_SECRET_ACCESS_KEY": "wrong"}, {"WINNOW_RELEASE_SOURCE": "s3://winnow-releases/nothing"}]
)
def test_what_cannot_be_fetched_fails_with_a_reason(
    storage: S3Server, bucket: Path, tmp_path: Path, wrong: dict[str, str]
) -> None:
    process = start_container("fetch-release", tmp_path / "releases", storage, **wrong)
    _, log = process.communicate(timeout=120)
    assert process.returncode == 1, log
    reason = json.loads(log.splitlines()[-1])["reason"]
    assert reason.startswith("the storage has no answer")
    assert "winnow-secret" not in log
    assert not (tmp_path / "releases").exists()


def test_a_service_swaps_to_what_the_sidecar_fetches(storage: S3Server, bucket: Path, tmp_path: Path) -> None:
    releases = tmp_path / "releases"
    _, log = start_container("fetch-release", releases, storage).communicate(timeout=120)
    assert current_release_id(releases) == current_release_id(bucket), log
    sidecar = start_container("follow-releases", releases, storage)
    try:
        with running("candidate_service", releases, "--release-poll-seconds=0.2") as service:
            status = status_pb2_grpc.StatusServiceStub(service.channel)
            # Damaged on its way: nothing changes, and the sidecar goes on.
            damaged = write_random_release(bucket, seed=1, item_count=200)
            (bucket / damaged / "vocabulary.safetensors").write_bytes(b"damaged")
            storage.upload(bucket)
            newest = write_random_release(bucket, seed=2)
            storage.upload(bucket)
            give_up = time.monotonic() + 180
            while newest not in str(status.GetStatus(status_pb2.GetStatusRequest(), timeout=5)):
                assert time.monotonic() < give_up, sidecar.poll()
                time.sleep(0.1)
            assert not (releases / damaged).exists()
    finally:
        sidecar.send_signal(signal.SIGTERM)
        _, log = sidecar.communicate(timeout=30)
    assert sidecar.returncode == 0, log
