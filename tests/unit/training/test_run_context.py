from pathlib import Path

import pytest
import torch

from tests.unit.training.settings import TINY
from tests.unit.training.trainees import context_in
from winnow.training.run_context import CPU, choose_precision


def test_an_identity_is_of_data_settings_and_seed() -> None:
    context = context_in(Path())
    identities = {
        context.identity(TINY.candidate),
        context.identity(TINY.ranking),
        context.also_from("sides").identity(TINY.candidate),
        context_in(Path(), data="other").identity(TINY.candidate),
        context_in(Path(), seed=6).identity(TINY.candidate),
    }
    assert len(identities) == 5
    assert context_in(Path("elsewhere"), resume=True).identity(TINY.candidate) in identities


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({}, torch.float32),
        ({"avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ],
)
def test_bfloat16_is_chosen_only_where_the_processor_has_it(
    capabilities: dict[str, bool], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_precision("auto", CPU) is expected
    assert choose_precision("float32", CPU) is torch.float32
    assert choose_precision("bfloat16", CPU) is torch.bfloat16
