"""docker-compose.yml and the overlay `milvus`: the Milvus of tests/engines, reachable by those who need it alone."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from candidate_service.settings import CandidateSettings
from tests.manifests import named, serving_containers
from tests.service.test_valkey_of_compose import COMPOSE, with_defaults

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def services() -> Any:
    return yaml.safe_load(with_defaults(COMPOSE.read_text()))["services"]


def test_without_the_profile_retrieval_is_embedded_and_milvus_is_not_reachable(services: Any) -> None:
    for service in ("candidate_service", "train"):
        assert services[service]["environment"]["WINNOW_CANDIDATE_ENGINE"] == CandidateSettings().engine == "none"
    milvus = services["milvus"]
    assert milvus["profiles"] == ["milvus"]
    assert "ports" not in milvus
    assert milvus["read_only"] is True
    assert milvus["cap_drop"] == ["ALL"]


def test_services_find_the_server_by_the_port_that_it_listens_on(services: Any) -> None:
    (container,) = serving_containers(named("milvus", "StatefulSet", "milvus"))
    assert {port["name"]: port["containerPort"] for port in container["ports"]}["grpc"] == 19530
    (service,) = named("milvus", "Service", "milvus")["spec"]["ports"]
    assert (service["port"], service["targetPort"]) == (19530, "grpc")
    assert services["candidate_service"]["environment"]["WINNOW_CANDIDATE_ENGINE_ADDRESS"] == "http://milvus:19530"


def test_the_server_is_the_version_that_the_tests_run(services: Any) -> None:
    tested = re.search(r"^milvus==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert tested
    (container,) = serving_containers(named("milvus", "StatefulSet", "milvus"))
    for image in (services["milvus"]["image"], container["image"]):
        assert image == f"milvusdb/milvus:v{tested[1]}"


def test_both_start_it_the_same_way(services: Any) -> None:
    (container,) = serving_containers(named("milvus", "StatefulSet", "milvus"))
    assert container["command"] == services["milvus"]["command"]
    assert {entry["name"]: entry["value"] for entry in container["env"]} == services["milvus"]["environment"]
