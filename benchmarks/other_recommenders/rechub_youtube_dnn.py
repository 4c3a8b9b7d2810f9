"""YoutubeDNN as torch-rechub builds and trains it: `torch_rechub.models.matching.YoutubeDNN` and its MatchTrainer.

The temperature and the law of the negatives, popularity as in word2vec, are those of torch-rechub's MovieLens example.
Its sixteen dimensions and three negatives are increased, and the only feature is the history, as for the others.

Shape legend: B examples, T places of a history, S negatives, H width, I items.
"""

import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_rechub.basic.features import SequenceFeature, SparseFeature
from torch_rechub.models.matching import YoutubeDNN
from torch_rechub.trainers import MatchTrainer

from benchmarks.other_recommenders.padded import PADDING, examples, padded
from winnow.history import RaggedRows

HISTORY_LENGTH = 50
EMBEDDING_DIM = 64
DIMS = [128, EMBEDDING_DIM]
TEMPERATURE = 0.02
NEGATIVE_COUNT = 20
# Negatives are drawn by the number of watches to this power.
POPULARITY_POWER = 0.75
EXAMPLES_PER_BATCH = 1024
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-6
SEED = 1


class RechubYoutubeDNN:
    """See Trained in __main__.py."""

    name: ClassVar[str] = "torch_rechub_youtubednn"
    settings: ClassVar[Mapping[str, Any]] = {
        "history_length": HISTORY_LENGTH, "embedding_dim": EMBEDDING_DIM, "dims": DIMS, "temperature": TEMPERATURE,
        "negatives": NEGATIVE_COUNT, "examples_per_batch": EXAMPLES_PER_BATCH, "learning_rate": LEARNING_RATE,
        "weight_decay": WEIGHT_DECAY,
    }  # fmt: skip

    def __init__(self, training: RaggedRows, item_count: int, epochs: int) -> None:
        torch.manual_seed(SEED)
        # Row 0 is the padding.
        sizes = {"vocab_size": item_count + 1, "embed_dim": EMBEDDING_DIM}
        history = SequenceFeature("history", pooling="mean", shared_with="item_id", padding_idx=PADDING, **sizes)
        item = SparseFeature("item_id", padding_idx=PADDING, **sizes)
        negatives = SequenceFeature("negatives", pooling="concat", shared_with="item_id", **sizes)
        self._network = YoutubeDNN([history], [item], [negatives], {"dims": DIMS}, temperature=TEMPERATURE)
        optimizer_params = {"lr": LEARNING_RATE, "weight_decay": WEIGHT_DECAY}
        with tempfile.TemporaryDirectory() as folder:
            self._trainer = MatchTrainer(self._network, 2, optimizer_params=optimizer_params, model_path=folder)
        self._training = training
        self._begins, self._targets = examples(training, HISTORY_LENGTH)
        weights_I = np.bincount(training.rows, minlength=item_count) ** POPULARITY_POWER
        self._cumulative_I = np.cumsum(weights_I / weights_I.sum())
        self._item_count, self._epochs = item_count, epochs

    def train_epoch(self, epoch: int) -> float:
        """Train on every watch once; return the mean loss."""
        for group in self._trainer.optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 + np.cos(np.pi * (epoch - 1) / self._epochs)) / 2
        loss: float = self._trainer.train_one_epoch(self._batches(epoch))
        return loss

    @torch.inference_mode()
    def scores(self, histories: RaggedRows) -> NDArray[np.float32]:
        """Return the score of each item after each history, float32 [B, I]."""
        network = self._network.eval()
        network.mode = "user"
        users_BH = network({"history": torch.from_numpy(padded(histories, HISTORY_LENGTH))})
        network.mode = "item"
        items_IH = network({"item_id": torch.arange(1, self._item_count + 1)})
        network.mode = None
        scores_BI: NDArray[np.float32] = (users_BH @ items_IH.T).numpy()
        return scores_BI

    def _batches(self, epoch: int) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        rng = np.random.default_rng([SEED, epoch])
        order = rng.permutation(len(self._targets))
        for start in range(0, len(order), EXAMPLES_PER_BATCH):
            chosen = order[start : start + EXAMPLES_PER_BATCH]
            begins, targets = self._begins[chosen], self._targets[chosen]
            drawn_BS = np.searchsorted(self._cumulative_I[:-1], rng.random((len(chosen), NEGATIVE_COUNT)), side="right")
            features = {
                "history": padded(self._training.take(begins, targets - begins), HISTORY_LENGTH),
                "item_id": self._training.rows[targets].astype(np.int64) + 1,
                "negatives": drawn_BS + 1,
            }
            # The first logit of each example is that of the target.
            yield {name: torch.from_numpy(values) for name, values in features.items()}, torch.zeros(len(chosen))
