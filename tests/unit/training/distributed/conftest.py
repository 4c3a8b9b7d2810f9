"""One process that is a group of its own: the sharded code without other processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from winnow.training.distributed.processes import Processes


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    store: Path = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield Processes(rank=0, count=1, device=torch.device("cpu"))
    dist.destroy_process_group()
