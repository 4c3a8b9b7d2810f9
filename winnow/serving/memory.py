"""How much memory this process may still take: of the machine, or of the container it runs in."""

from pathlib import Path


def available_bytes(root: Path = Path("/")) -> int | None:
    """Return the smaller of what the machine and the control group leave; None where neither can be told."""
    limits = [limit for limit in (_machine(root), _control_group(root)) if limit is not None]
    return min(limits, default=None)


def _machine(root: Path) -> int | None:
    try:
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None


def _control_group(root: Path) -> int | None:
    group = root / "sys/fs/cgroup"
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit == "max":
            return None
        return max(0, int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        return None
