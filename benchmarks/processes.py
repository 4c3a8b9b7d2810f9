"""What the kernel says of a process: its CPU time and its memory."""

import os
from pathlib import Path


def cpu_seconds(process_id: int) -> float:
    """Return the user and system time of a process, over all its threads."""
    # The command's name may contain spaces; the fields after its closing parenthesis do not.
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mebibytes(process_id: int | str = "self") -> dict[str, int]:
    """Return the memory of a process by the names of the kernel: resident now and at most, and no file behind it."""
    lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: round(int(fields[name].split()[0]) / 1024) for name in ("VmRSS", "VmHWM", "RssAnon")}
