"""The README's Python runs as it is printed."""

import re
from pathlib import Path

import pytest

from tests.unit.client.fake_gateway import FakeGateway
from winnow.v1 import recommendation_pb2

README = (Path(__file__).parents[3] / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_runs(gateway: FakeGateway, snippet: str, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.response = recommendation_pb2.RecommendItemsResponse(
        items=[recommendation_pb2.ScoredItem(item_id="Aliens (1986)", score=0.5)], release_id="release-1"
    )
    code = snippet.replace("localhost:50050", gateway.target).replace("timeout_seconds=0.2", "timeout_seconds=5")
    exec(code, {})  # noqa: S102 - our own page
    if "print" in snippet:
        assert capsys.readouterr().out.startswith("Aliens (1986) 0.5\nrelease-1 ")
