"""What the hardware can compute."""

import torch


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16; elsewhere they are emulated, slowly."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
