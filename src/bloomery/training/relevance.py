"""The relevance objective: does this passage answer this query? For a cross-encoder that reads both at once.

Binary cross-entropy of one logit (Nogueira and Cho, arXiv 1901.04085, with one output as in sentence-transformers'
cross-encoders). This module does not know where pairs come from. Shapes: B pairs, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.models.encoder import Encoder
from bloomery.training.batches import BatchObjective, mask_of, padded
from bloomery.training.loader import ExampleLoader
from bloomery.training.objective import Batch


@dataclass(frozen=True, kw_only=True)
class LabelledPair:
    """A query and a passage as ids with their special tokens, which of the two each token is of, and the label: from
    0 (no answer) to 1."""

    input_ids: Sequence[int]
    token_type_ids: Sequence[int]
    label: float


class RelevanceObjective(BatchObjective[list[LabelledPair]]):
    """Pairs with labels. ConfigError for an encoder without a head of one output."""

    unit = "pairs"
    headline = "nats_per_pair"

    def __init__(self, model: Encoder, loader: ExampleLoader[LabelledPair], *, seed: int) -> None:
        super().__init__(model, loader, seed=seed)
        if model.config.head != "sequence" or model.config.num_labels != 1:
            raise ConfigError("relevance needs a head with one output", hint='head="sequence", num_labels=1')
        self.encoder = model
        self._pad_id = model.config.pad_token_id or 0

    def collate(self, material: list[LabelledPair], rng: np.random.Generator, *, training: bool) -> Batch:
        """`input_ids`, `attention_mask` and `token_type_ids`, all (B, T), and `labels` (B,) float32."""
        rows = [pair.input_ids for pair in material]
        ids = padded(rows, self._pad_id)
        types = padded([pair.token_type_ids for pair in material], 0)
        if self.encoder.config.type_vocab_size < 2:
            types = np.zeros_like(types)
        labels = np.array([pair.label for pair in material], dtype=np.float32)
        arrays = {"input_ids": ids, "attention_mask": mask_of(rows, ids.shape[1]), "token_type_ids": types}
        return Batch(arrays={**arrays, "labels": labels}, weight=len(labels), items=len(labels))

    def _logits(self, arrays: Mapping[str, Tensor]) -> Tensor:
        inputs: dict[str, Any] = {name: array for name, array in arrays.items() if name != "labels"}
        return self.encoder(**inputs, unpad=None).float().squeeze(-1)

    def loss(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Summed nats."""
        return F.binary_cross_entropy_with_logits(self._logits(arrays), arrays["labels"], reduction="sum")

    def figures(self, arrays: Mapping[str, Tensor]) -> Mapping[str, float]:
        """The loss, and the share whose sign is right."""
        logits, labels = self._logits(arrays), arrays["labels"]
        nats = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
        return {"nats_per_pair": float(nats), "accuracy": float(((logits > 0) == (labels > 0.5)).sum())}
