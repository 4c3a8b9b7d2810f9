import json

import pytest

from gateway.served_catalogue import ServedCatalogue
from gateway.settings import GatewaySettings
from gateway.sources.configured import configured_sources
from tests.unit.gateway.sources.test_external import Client
from winnow.serving.metrics import Metrics

EDITORS = {"name": "editors", "target": "localhost:1"}


def names(catalogue: ServedCatalogue, settings: GatewaySettings, *clients: Client) -> list[str]:
    return [source.name for source in configured_sources(catalogue, settings, clients, Metrics())]


def test_there_are_none_by_default(catalogue: ServedCatalogue) -> None:
    assert names(catalogue, GatewaySettings()) == []


def test_those_that_the_settings_ask_for(catalogue: ServedCatalogue) -> None:
    settings = GatewaySettings(trending_count=5, fresh_count=5, fresh_attribute="added")
    assert names(catalogue, settings, Client(None)) == ["trending", "fresh", "editors"]


@pytest.mark.parametrize(
    ("attribute", "reason"), [("adddded", "there is no attribute adddded"), ("year", "attribute year is a number")]
)
def test_without_the_attribute_nothing_is_fresh_and_the_log_says_why(
    catalogue: ServedCatalogue, attribute: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert names(catalogue, GatewaySettings(fresh_count=5, fresh_attribute=attribute)) == []
    assert reason in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--fresh-count=5"], "fresh_count needs a fresh_attribute"),
        (["--trending-count=501"], "--trending-count or WINNOW_GATEWAY_TRENDING_COUNT: Input should be less"),
        (["--candidate-count=1000", "--trending-count=1"], "a request could have 2001 candidates, more than 2000"),
        ([f"--external-sources={json.dumps([EDITORS, EDITORS])}"], "the name editors is taken"),
        ([f"--external-sources={json.dumps([EDITORS | {'name': 'network'}])}"], "the name network is taken"),
        ([f"--external-sources={json.dumps([EDITORS | {'name': 'Ed Itors'}])}"], "String should match pattern"),
        ([f"--external-sources={json.dumps([{'name': 'editors'}])}"], "Field required"),
        ([f"--external-sources={json.dumps([EDITORS | {'timeout': 1}])}"], "Extra inputs are not permitted"),
    ],
)
def test_settings_that_make_no_sense_are_refused(flags: list[str], reason: str) -> None:
    with pytest.raises(SystemExit, match=reason):
        GatewaySettings.from_command_line(flags)


def test_an_external_source_from_flag_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps([EDITORS | {"candidate_count": 7, "timeout_seconds": 0.2}])
    from_flag = GatewaySettings.from_command_line([f"--external-sources={text}"])
    monkeypatch.setenv("WINNOW_GATEWAY_EXTERNAL_SOURCES", text)
    from_environment = GatewaySettings.from_command_line([])
    assert from_flag.external_sources == from_environment.external_sources
    [source] = from_flag.external_sources
    assert (source.name, source.candidate_count, source.timeout_seconds) == ("editors", 7, 0.2)
