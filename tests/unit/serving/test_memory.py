from pathlib import Path

import pytest

from winnow.release.reader import ReleaseError
from winnow.serving.memory import available_bytes
from winnow.serving.releases import check_memory

GIB = 2**30


def machine(root: Path, available_kib: int, limit: str | None = None, used: int = 0) -> Path:
    (root / "proc").mkdir()
    (root / "proc/meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable:   {available_kib} kB\n")
    if limit is not None:
        (root / "sys/fs/cgroup").mkdir(parents=True)
        (root / "sys/fs/cgroup/memory.max").write_text(limit + "\n")
        (root / "sys/fs/cgroup/memory.current").write_text(f"{used}\n")
    return root


def test_a_container_has_what_its_limit_leaves(tmp_path: Path) -> None:
    assert available_bytes(machine(tmp_path, 8 * 1024 * 1024, str(2 * GIB), GIB)) == GIB


def test_without_a_limit_it_is_what_the_machine_has(tmp_path: Path) -> None:
    assert available_bytes(machine(tmp_path, 1024, "max")) == 1024 * 1024


def test_where_nothing_can_be_told_nothing_is_said(tmp_path: Path) -> None:
    assert available_bytes(tmp_path) is None


def test_a_release_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights").write_bytes(b"\0" * 3000)
    monkeypatch.setattr("winnow.serving.releases.available_bytes", lambda: 4000)
    with pytest.raises(ReleaseError, match="needs about 0 MiB of memory, 0 MiB are left"):
        check_memory(tmp_path, {"weights"})
    monkeypatch.setattr("winnow.serving.releases.available_bytes", lambda: 5000)
    check_memory(tmp_path, {"weights"})
    monkeypatch.setattr("winnow.serving.releases.available_bytes", lambda: 0)
    check_memory(tmp_path, {"what this service reads"})
