"""Which number format the matrix products of training use."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Self

import torch


@dataclass(frozen=True, kw_only=True)
class Precision:
    """float32, or bfloat16 in the products with float32 weights and sums."""

    dtype: torch.dtype

    @classmethod
    def choose(cls, name: Literal["auto", "float32", "bfloat16"], device: torch.device) -> Self:
        """Resolve "auto": bfloat16 where the device has instructions for it, since it is emulated slowly elsewhere."""
        if name == "float32":
            return cls(dtype=torch.float32)
        if name == "bfloat16":
            return cls(dtype=torch.bfloat16)
        if device.type == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            capabilities = torch.cpu.get_capabilities()
            native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
        return cls(dtype=torch.bfloat16 if native else torch.float32)

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context in which layers compute in this format."""
        return torch.autocast(device.type, dtype=self.dtype, enabled=self.dtype is not torch.float32)
