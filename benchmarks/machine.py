"""The machine, the versions and the commit that figures were measured with."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = ("grpcio", "protobuf", "uvloop", "numpy", "torch", "faiss-cpu")
# Instruction sets that matter for the speed of these networks.
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


def describe_machine() -> dict[str, Any]:
    """Return processor, memory, versions and the commit, as JSON values."""
    cpu_lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in cpu_lines)}
    flags = fields.get("flags", "").split()
    memory_kibibytes = next(
        int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")
    )
    return {
        "processor": fields.get("model name", platform.processor()),
        "cores": os.cpu_count(),
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in flags],
        "memory_gibibytes": round(memory_kibibytes / 2**20, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no", "--", "*.py", "*.proto")),
    }


def _git(*arguments: str) -> str:
    result = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)  # noqa: S607
    return result.stdout.strip()
