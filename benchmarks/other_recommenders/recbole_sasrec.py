"""SASRec as RecBole builds it: `recbole.model.sequential_recommender.SASRec`.

The network, its initial values and its loss, a softmax over all items, are RecBole's. RecBole makes one example of each
watch and encodes its whole history for it; here the loss is taken at all places of a window at once, as in SASRec's
paper: many times as many examples in the same time.

Shape legend: B windows, T places, H width, N examples, I items.
"""

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.model.sequential_recommender.sasrec import SASRec
from torch import Tensor

from benchmarks.other_recommenders.padded import PADDING, batches, padded, windows
from winnow.history import RaggedRows
from winnow.training.losses import LogitMemory, full_softmax_loss

SETTINGS: Mapping[str, Any] = {
    "n_layers": 2, "n_heads": 2, "hidden_size": 64, "inner_size": 256, "hidden_dropout_prob": 0.2,
    "attn_dropout_prob": 0.2, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "initializer_range": 0.02,
    "loss_type": "CE", "MAX_ITEM_LIST_LENGTH": 100,
}  # fmt: skip
# Names of columns, which the network asks for.
FIELDS = {"USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "LIST_SUFFIX": "_list", "NEG_PREFIX": "neg_",
          "ITEM_LIST_LENGTH_FIELD": "item_length", "device": "cpu"}  # fmt: skip
WINDOWS_PER_BATCH = 32
LEARNING_RATE = 1e-3
SEED = 1


class RecBoleSASRec:
    """See Trained in __main__.py."""

    name: ClassVar[str] = "recbole_sasrec"
    settings: ClassVar[Mapping[str, Any]] = {
        **SETTINGS,
        "windows_per_batch": WINDOWS_PER_BATCH,
        "learning_rate": LEARNING_RATE,
    }

    def __init__(self, training: RaggedRows, item_count: int, epochs: int) -> None:
        torch.manual_seed(SEED)
        # Row 0 is the padding.
        self._network = SASRec({**SETTINGS, **FIELDS}, SimpleNamespace(num=lambda _: item_count + 1))
        self._length: int = SETTINGS["MAX_ITEM_LIST_LENGTH"]
        self._logits = LogitMemory()
        self._windows = windows(training, self._length)
        self._optimizer = torch.optim.Adam(self._network.parameters(), lr=LEARNING_RATE)
        step_count = epochs * -(-len(self._windows) // WINDOWS_PER_BATCH)
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimizer, step_count)

    def train_epoch(self, epoch: int) -> float:
        """Train on every watch once; return the mean loss."""
        self._network.train()
        losses = [self._step(*batch) for batch in self._batches(epoch)]
        return float(np.mean(losses))

    @torch.inference_mode()
    def scores(self, histories: RaggedRows) -> NDArray[np.float32]:
        """Return the score of each item after each history, float32 [B, I]."""
        self._network.eval()
        items_BT = torch.from_numpy(padded(histories, self._length))
        lengths_B = (items_BT != PADDING).sum(dim=1).clamp(min=1)
        users_BH = self._network(items_BT, lengths_B)
        scores_BI: NDArray[np.float32] = (users_BH @ self._network.item_embedding.weight[1:].T).numpy()
        return scores_BI

    def _batches(self, epoch: int) -> Iterator[tuple[NDArray[np.int64], ...]]:
        return batches(self._windows, WINDOWS_PER_BATCH, np.random.default_rng([SEED, epoch]))

    def _step(self, watched_BT: NDArray[np.int64], next_BT: NDArray[np.int64]) -> float:
        network = self._network
        with torch.autocast("cpu", torch.bfloat16):
            encoded_BTH = self._encoded(torch.from_numpy(watched_BT))
            next_N = torch.from_numpy(next_BT).flatten()
            predicted = next_N != PADDING
            users_NH = encoded_BTH.flatten(0, 1)[predicted].bfloat16()
        items_IH = network.item_embedding.weight.bfloat16()
        loss = full_softmax_loss(users_NH, items_IH, next_N[predicted], None, self._logits)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._schedule.step()
        return loss.item()

    def _encoded(self, items_BT: Tensor) -> Tensor:
        """What SASRec.forward computes, at every place."""
        network = self._network
        positions_T = torch.arange(items_BT.shape[1])
        entered_BTH = network.item_embedding(items_BT) + network.position_embedding(positions_T)
        entered_BTH = network.dropout(network.LayerNorm(entered_BTH))
        encoded_BTH: Tensor = network.trm_encoder(
            entered_BTH, network.get_attention_mask(items_BT), output_all_encoded_layers=False
        )[-1]
        return encoded_BTH
