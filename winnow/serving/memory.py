"""How much more memory this process may take: of the machine, or of the container it runs in."""

from pathlib import Path


def available_bytes(root: Path = Path("/")) -> int | None:
    """Return what the machine or the control group has left, whichever is less; None where neither is known."""
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
        used = int((group / "memory.current").read_text())
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # Pages of files that were read once, such as those just hashed: the kernel takes them back when it needs them.
        return max(0, int(limit) - used + int(counts["inactive_file"]))
    except (OSError, ValueError, KeyError):
        return None
