"""Networks and index of a release: rebuilt from the manifest and the verified files."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from winnow.index.exact import ExactIndex
from winnow.index.protocol import CandidateIndex
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.ranking import DeepRankingModel
from winnow.release.manifest import CANDIDATE_NETWORK_FILE, INDEX_FILE, RANKING_NETWORK_FILE
from winnow.release.reader import Release, ReleaseError

Network = TypeVar("Network", bound=nn.Module)


def load_candidate_network(release: Release, device: torch.device) -> DeepCandidateGenerationModel:
    """Return the network on the device, in evaluation mode. Raises ReleaseError where shapes or weights do not fit."""
    return _load(
        release, DeepCandidateGenerationModel, release.manifest.candidate_network, CANDIDATE_NETWORK_FILE, device
    )


def load_ranking_network(release: Release, device: torch.device) -> DeepRankingModel:
    """Return the network on the device, in evaluation mode. Raises ReleaseError where shapes or weights do not fit."""
    return _load(release, DeepRankingModel, release.manifest.ranking_network, RANKING_NETWORK_FILE, device)


def load_index(release: Release, item_vectors_IH: Tensor) -> CandidateIndex:
    """Return the index that the release was tuned with; the vectors, on the CPU, are its candidate network's.

    Raises ReleaseError where the file is not an index of these vectors.
    """
    entry = release.manifest.index
    if entry.kind == "exact":
        return ExactIndex(item_vectors_IH)
    from winnow.index.approximate import ApproximateIndex  # faiss: only where it is used

    try:
        return ApproximateIndex.open(release.file(INDEX_FILE), item_vectors_IH, entry.probe_count)
    except ValueError as error:
        raise ReleaseError(f"release {release.release_id}: {error}") from error


def _load(
    release: Release, network_class: type[Network], arguments: dict[str, object], file: str, device: torch.device
) -> Network:
    def refused(reason: str) -> ReleaseError:
        return ReleaseError(f"release {release.release_id}: {file}: {reason}")

    if arguments.get("n_items") != release.manifest.item_count:
        raise refused(f"made for {arguments.get('n_items')} items, not {release.manifest.item_count}")
    try:
        # Weights come from the file: on the meta device none is allocated.
        with torch.device("meta"), _WithoutDraws():
            network = network_class(**arguments)
        network.load_state_dict(load_file(release.file(file), device=str(device)), assign=True)
    except (TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise refused(str(error)) from error
    for name, weights in network.state_dict().items():
        if weights.is_floating_point() and not bool(weights.isfinite().all()):
            raise refused(f"{name} holds a value that is not finite")
    return network.eval().requires_grad_(requires_grad=False)


class _WithoutDraws(TorchFunctionMode):
    """Leaves weights as they are where torch would draw first values for them.

    On the meta device nothing would be drawn anyway, but to find that out torch imports its compiler: a second and a
    half, and 70 MiB.
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
