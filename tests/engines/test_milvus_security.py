"""A Milvus with TLS and passwords: who has the token and the authority gets in, and nobody else."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.engines.milvus_server import MilvusServer, milvus_server
from tests.engines.test_milvus import publish
from tests.manifests import KUBERNETES
from tests.releases import write_random_release
from tests.service.process import running, start
from winnow.queries import RetrievalQuery
from winnow.release.reader import open_release
from winnow.serving.wire import pack_retrieval_query, unpack_candidates
from winnow.v1 import candidate_pb2_grpc

pytestmark = pytest.mark.engines

# Milvus's own first user.
TOKEN = "root:Milvus"  # noqa: S105


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    script = KUBERNETES.parent / "certificates" / "make.sh"
    subprocess.run([script, directory, "localhost"], check=True, timeout=60)
    return directory


@pytest.fixture(scope="module")
def secured(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    settings = {
        "tls_mode": 1,
        "server_pem_path": str(certificates / "server.pem"),
        "server_key_path": str(certificates / "server.key"),
        "ca_pem_path": str(certificates / "ca.pem"),
        "authorization_enabled": True,
    }
    with milvus_server(tmp_path_factory.mktemp("secured-milvus"), settings) as server:
        yield server


def test_the_token_and_the_authority_open_it(secured: MilvusServer, certificates: Path, tmp_path: Path) -> None:
    releases, token = tmp_path / "releases", tmp_path / "token"
    token.write_text(TOKEN + "\n")
    release_id = write_random_release(releases)
    flags = [f"--engine-token-file={token}", f"--engine-ca-file={certificates / 'ca.pem'}"]
    made = publish(releases, release_id, secured, *flags)
    assert made.returncode == 0, made.stderr
    engine = ["--engine=milvus", f"--engine-address={secured.uri}", *flags]
    with running("candidate_service", releases, *engine) as service:
        golden = open_release(releases / release_id).golden_requests()
        counts = golden.candidates.lengths.astype(np.int32)
        query = RetrievalQuery(histories=golden.histories, counts=counts, exclusions=golden.histories)
        request = pack_retrieval_query(query, release_id)
        answer = candidate_pb2_grpc.CandidateServiceStub(service.channel).RetrieveCandidates(request, timeout=10)
        assert unpack_candidates(answer).rows.rows.tolist() == golden.candidates.rows.tolist()


@pytest.mark.parametrize("missing", ["token", "authority"])
def test_without_one_of_them_nothing_is_published_or_served(
    secured: MilvusServer, certificates: Path, tmp_path: Path, missing: str
) -> None:
    releases, token = tmp_path / "releases", tmp_path / "token"
    token.write_text("root:wrong" if missing == "token" else TOKEN)
    release_id = write_random_release(releases)
    flags = [f"--engine-token-file={token}"]
    if missing != "authority":
        flags.append(f"--engine-ca-file={certificates / 'ca.pem'}")
    made = publish(releases, release_id, secured, *flags, "--engine-timeout-seconds=5")
    assert made.returncode == 1
    assert f"Milvus at {secured.uri}: " in made.stderr
    service = start("candidate_service", f"--releases={releases}", "--port=0", "--engine=milvus",
                    f"--engine-address={secured.uri}", *flags)  # fmt: skip
    _, errors = service.communicate(timeout=60)
    assert service.returncode == 1
    assert f"Milvus at {secured.uri}: " in errors
    for text in (made.stdout, made.stderr, errors):
        assert token.read_text() not in text
