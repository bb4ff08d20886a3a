"""The objective of supervised fine-tuning: the assistant's next tokens, and nothing else, of conversations.

Texts of a batch lie one after the other in a single row, without padding, each computed as if it stood alone
(`Decoder.hidden_states` with lengths): whether they were packed or not changes no number. Only where something is
learnt are logits made. Shapes: B rows, T tokens of the longest, K texts of a row at most, N tokens. This module does
not know data or adapters' files.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bloomery.adapt.tuning.sft_tokens import Row
from bloomery.models import Decoder
from bloomery.training.batches import BatchObjective, padded
from bloomery.training.linear_cross_entropy import IGNORED, linear_cross_entropy
from bloomery.training.loader import ExampleLoader
from bloomery.training.objective import Batch, to_device


class SftObjective(BatchObjective[list[Row]]):
    """Summed nats of what is learnt, for a decoder with or without adapters."""

    def __init__(self, model: Decoder, loader: ExampleLoader[Row], *, seed: int = 0) -> None:
        super().__init__(model, loader, seed=seed)
        self.decoder = model

    def collate(self, material: list[Row], rng: np.random.Generator, *, training: bool) -> Batch:
        """`input_ids` and `labels` (B, T), the labels those of the next token and -100 where none is learnt; `lengths`
        (B, K), zeros after the last."""
        arrays = batch_of(material)
        learnt = int((arrays["labels"] != IGNORED).sum())
        return Batch(arrays=arrays, weight=learnt, items=sum(row.length for row in material))

    def placed(self, arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
        """They stay where they are: `sft_loss` sends what it makes of them."""
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def loss(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Summed nats of learnt tokens."""
        return sft_loss(self.decoder, arrays["input_ids"], arrays["labels"], arrays["lengths"])

    def figures(self, arrays: Mapping[str, Tensor]) -> Mapping[str, float]:
        """Nats per learnt token."""
        return {"nats_per_token": float(self.loss(arrays))}


def batch_of(rows: list[Row]) -> dict[str, np.ndarray]:
    """The arrays that `sft_loss` reads, of some rows."""
    ids = [[index for one in row.examples for index in one.ids] for row in rows]
    labels = []
    for row in rows:
        made: list[int] = []
        for one in row.examples:
            after = [index if learnt else IGNORED for index, learnt in zip(one.ids, one.learnt, strict=True)]
            made += [*after[1:], IGNORED]
        labels.append(made)
    lengths = [[len(one.ids) for one in row.examples] for row in rows]
    return {"input_ids": padded(ids, 0), "labels": padded(labels, IGNORED), "lengths": padded(lengths, 0)}


def sft_loss(decoder: Decoder, input_ids: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
    """Summed negative log-likelihood in nats, float32. See `batch_of` for the arrays.

    They are looked at on the CPU, and only what is computed with goes to the decoder's device, which is then never
    waited for; arrays that are on it already are fetched, which waits.
    """
    ids, wanted, each = (array.cpu().numpy() for array in (input_ids, labels, lengths))
    there = np.arange(ids.shape[1]) < each.sum(1, keepdims=True)
    flat, wanted = ids[there], wanted[there]
    learnt = np.flatnonzero(wanted != IGNORED)
    arrays = {"ids": flat, "wanted": wanted[learnt], "learnt": learnt}
    sent = to_device(arrays, decoder.model.embed_tokens.weight.device)
    hidden = decoder.hidden_states(sent["ids"][None], lengths=tuple(each[each > 0].tolist())).squeeze(0)
    hidden, answers = hidden.index_select(0, sent["learnt"]), sent["wanted"]
    if decoder.on_logits is None:
        return linear_cross_entropy(hidden, decoder.output_weight, answers, softcap=decoder.output_softcap)
    return F.cross_entropy(decoder.logits(hidden).float(), answers, reduction="sum")  # the head has an adapter
