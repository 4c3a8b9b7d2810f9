"""Networks and index of a release: rebuilt from the manifest and the verified files."""

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from winnow.index.exact import ExactIndex
from winnow.index.protocol import CandidateIndex
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.neighbours import Neighbours
from winnow.networks.options import NetworkConfig
from winnow.networks.ranking import DeepRankingModel
from winnow.release.manifest import (
    CANDIDATE_ADDED_FILE,
    CANDIDATE_NETWORK_FILE,
    INDEX_FILE,
    RANKING_ADDED_FILE,
    RANKING_NETWORK_FILE,
    Manifest,
)
from winnow.release.reader import Release, ReleaseError

Network = TypeVar("Network", bound=nn.Module)
Config = TypeVar("Config", bound=NetworkConfig)


OUTPUT_TABLE = "output.weight"
"""The tensor of a candidate network that only an index in the process reads."""


def load_candidate_network(
    release: Release, device: torch.device, *, with_output_table: bool = True
) -> DeepCandidateGenerationModel:
    """Return the network on the device, in evaluation mode. Raises ReleaseError where shapes or weights do not fit.

    Without its output table, it computes user vectors, and its `item_vectors_IH` have a shape and no numbers.
    """
    config = release.manifest.candidate_network
    files = CANDIDATE_NETWORK_FILE, CANDIDATE_ADDED_FILE
    left_out = frozenset() if with_output_table else frozenset({OUTPUT_TABLE})
    return _load(release, DeepCandidateGenerationModel.from_config, config, files, device, left_out)


def load_ranking_network(release: Release, device: torch.device) -> DeepRankingModel:
    """Return the network on the device, in evaluation mode. Raises ReleaseError where shapes or weights do not fit."""
    config = release.manifest.ranking_network
    return _load(release, DeepRankingModel.from_config, config, (RANKING_NETWORK_FILE, RANKING_ADDED_FILE), device)


def load_index(release: Release, item_vectors_IH: Tensor) -> CandidateIndex:
    """Return the index of the release; `item_vectors_IH`, on the CPU, are those of its candidate network.

    Raises ReleaseError where the file is not an index of these vectors.
    """
    entry = release.manifest.index
    if entry.kind == "exact":
        return ExactIndex(item_vectors_IH, release.retired())
    from winnow.index.approximate import ApproximateIndex  # faiss: only where it is used

    try:
        return ApproximateIndex.open(
            release.file(INDEX_FILE),
            item_vectors_IH,
            entry.probe_count,
            entry.rows_scored_for_each,
            release.retired(),
        )
    except ValueError as error:
        raise ReleaseError(f"release {release.release_id}: {INDEX_FILE}: {error}") from error


def output_table_bytes(manifest: Manifest) -> int:
    """Return the size of the output table in the candidate network's file."""
    config = manifest.candidate_network
    rows = manifest.item_count - manifest.added_item_count
    return 0 if config.options.tied_tables else 4 * rows * config.hidden_dim


def appended_bytes(manifest: Manifest, file: str) -> int:
    """Return how much memory a network takes while added rows are appended to its tables, besides its file."""
    return manifest.files[file].size_bytes if manifest.added_item_count else 0


def build_network(build: Callable[[Config], Network], config: Config, weights: Mapping[str, Tensor]) -> Network:
    """Return a network with these weights, which are not copied, in evaluation mode.

    Raises ValueError or RuntimeError where they do not fit the config.
    """
    with torch.device("meta"), _WithoutDraws():
        network = build(config)
    # Assigned, they would be of whatever type they are, and the first request that needs them would fail.
    for name, expected in network.state_dict().items():
        if name in weights and weights[name].dtype != expected.dtype:
            raise ValueError(f"{name} is of {weights[name].dtype}, not of {expected.dtype}")
    network.load_state_dict(weights, assign=True)
    return network.eval().requires_grad_(requires_grad=False)


def with_rows(weights: Mapping[str, Tensor], added: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Append rows to the tables that `added` names. Raises ValueError where there is no such table of that type."""
    for name, rows in added.items():
        if name not in weights or weights[name].dtype != rows.dtype or weights[name].dim() != rows.dim():
            raise ValueError(f"{name} cannot take the rows that were added")
    # Copied, all of them: a view would keep the whole file in memory, beside the new tables.
    return {
        name: torch.cat([tensor, added[name]]) if name in added else tensor.clone() for name, tensor in weights.items()
    }


def _load(
    release: Release,
    build: Callable[[Config], Network],
    config: Config,
    files: tuple[str, str],
    device: torch.device,
    left_out: Set[str] = frozenset(),
) -> Network:
    """Load a network from its file and that of the rows that were added, if there is one.

    Tables that are `left_out` have no memory: they are on the meta device.
    """
    file, added = files

    def read(name: str) -> dict[str, Tensor]:
        with safe_open(release.file(name), framework="pt", device=str(device)) as tensors:
            return {
                key: torch.empty(tensors.get_slice(key).get_shape(), device="meta")
                if key in left_out
                else tensors.get_tensor(key)
                for key in tensors.keys()  # noqa: SIM118 - it is no mapping
            }

    def refused(reason: str) -> ReleaseError:
        return ReleaseError(f"release {release.release_id}: {file}: {reason}")

    if config.n_items != release.manifest.item_count:
        raise refused(f"made for {config.n_items} items, not {release.manifest.item_count}")
    try:
        weights = read(file)
        if release.manifest.added_item_count:
            weights = with_rows(weights, read(added))
        # The weights come from the file: on the meta device, none are allocated.
        network = build_network(build, config, weights)
        for module in network.modules():
            if isinstance(module, Neighbours):
                module.check()
    except (ValueError, RuntimeError, SafetensorError) as error:
        raise refused(str(error)) from error
    for name, tensor in network.state_dict().items():
        # The extremes are nan or infinite if any value is; to look at each value takes as much memory again.
        if (
            tensor.is_floating_point()
            and not tensor.is_meta
            and not all(extreme.isfinite() for extreme in tensor.aminmax())
        ):
            raise refused(f"{name} holds a value that is not finite")
    return network


class _WithoutDraws(TorchFunctionMode):
    """Skips the initialisation of weights.

    On the meta device it has no effect anyway, but torch imports its compiler before it finds out: 1.5 seconds and 70
    MiB.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return named["tensor"] if "tensor" in named else args[0]
        return func(*args, **named)
