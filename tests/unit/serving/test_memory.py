from pathlib import Path

from winnow.serving.memory import available_bytes

GIB = 2**30


def machine(root: Path, available_kib: int, limit: str | None = None, used: int = 0, cached: int = 0) -> Path:
    (root / "proc").mkdir()
    (root / "proc/meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable:   {available_kib} kB\n")
    if limit is not None:
        (root / "sys/fs/cgroup").mkdir(parents=True)
        (root / "sys/fs/cgroup/memory.max").write_text(limit + "\n")
        (root / "sys/fs/cgroup/memory.current").write_text(f"{used}\n")
        (root / "sys/fs/cgroup/memory.stat").write_text(f"anon 1\ninactive_file {cached}\nactive_file 2\n")
    return root


def test_a_container_has_what_its_limit_leaves(tmp_path: Path) -> None:
    assert available_bytes(machine(tmp_path, 8 * 1024 * 1024, str(2 * GIB), GIB)) == GIB


def test_pages_of_files_that_were_read_once_are_not_used(tmp_path: Path) -> None:
    root = machine(tmp_path, 8 * 1024 * 1024, str(4 * GIB), used=3 * GIB, cached=2 * GIB)
    assert available_bytes(root) == 3 * GIB


def test_without_a_limit_it_is_what_the_machine_has(tmp_path: Path) -> None:
    assert available_bytes(machine(tmp_path, 1024, "max")) == 1024 * 1024


def test_where_nothing_can_be_told_nothing_is_said(tmp_path: Path) -> None:
    assert available_bytes(tmp_path) is None
