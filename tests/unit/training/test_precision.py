import pytest
import torch

from winnow.training.precision import Precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"avx512_bf16": False, "amx_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"architecture": "a processor that torch knows nothing of"}, torch.float32),
    ],
)
def test_auto_is_bfloat16_where_the_processor_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, object], expected: torch.dtype
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities)
    assert Precision.choose("auto", CPU).dtype == expected


@pytest.mark.parametrize("has_bfloat16", [False, True])
def test_a_named_precision_is_used_whatever_the_processor_has(
    monkeypatch: pytest.MonkeyPatch, has_bfloat16: bool
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": has_bfloat16})
    assert Precision.choose("float32", CPU).dtype == torch.float32
    assert Precision.choose("bfloat16", CPU).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_layers_compute_in_the_precision(name: str) -> None:
    precision = Precision.choose(name, CPU)  # type: ignore[arg-type]
    layer = torch.nn.Linear(2, 2)
    with precision.autocast(CPU):
        assert layer(torch.ones(1, 2)).dtype == precision.dtype
