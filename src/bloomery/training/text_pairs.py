"""The contrastive objective of texts: which passage of a batch answers which query.

InfoNCE over in-batch negatives (van den Oord et al., arXiv 1807.03748; Karpukhin et al., arXiv 2004.04906): softmax
over the batch's passages, hard negatives among them, of the cosine times `scale`. A passage that is known to answer a
query is no wrong answer to it, whoever it came with. This module does not know where pairs come from, nor how hard
negatives are found. Shapes: B queries, N hard negatives of each, T tokens, P = B (1 + N) passages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bloomery.core.errors import ConfigError, DataError
from bloomery.models.encoder import Encoder
from bloomery.models.pooling import Pooling
from bloomery.training.batches import BatchObjective, mask_of, padded
from bloomery.training.loader import ExampleLoader
from bloomery.training.objective import Batch

SCALE = 20.0
"""What cosines are multiplied with, as sentence-transformers does: a temperature of .05."""


@dataclass(frozen=True, kw_only=True)
class TextGroup:
    """A query, the passage that answers it, and passages that look as if they did; all as ids with their special
    tokens."""

    query_ids: Sequence[int]
    passage_ids: tuple[Sequence[int], ...]
    """The right one first, then the hard negatives: as many for every group of a batch."""
    keys: tuple[str, ...]
    """Names of these passages: the same passage has the same one."""
    relevant: frozenset[str]
    """All passages that are known to answer the query."""

    def __post_init__(self) -> None:
        if len(self.keys) != len(self.passage_ids) or not self.keys:
            raise DataError("a group has a passage or more, and a key for each")
        if self.keys[0] not in self.relevant or self.relevant.intersection(self.keys[1:]):
            raise DataError(f"of {', '.join(self.keys)[:80]} the first alone should be relevant")


class TextContrastiveObjective(BatchObjective[list[TextGroup]]):
    """Queries and passages read by one encoder. A batch is computed whole: every query is compared with all passages.

    `scale` multiplies cosines; `both` adds the other direction (which query belongs to the right passage), and halves
    the sum. ConfigError for a pooling with layers of its own, which would not be trained.
    """

    unit = "pairs"
    divisible = False
    headline = "recall_in_batch"

    def __init__(
        self,
        model: Encoder,
        loader: ExampleLoader[TextGroup],
        *,
        pooling: Pooling | None = None,
        scale: float = SCALE,
        both: bool = False,
        seed: int,
    ) -> None:
        super().__init__(model, loader, seed=seed)
        self.encoder, self.pooling = model, pooling or Pooling()
        if self.pooling.dense:
            raise ConfigError("the dense layers of this folder's pooling cannot be trained", hint="another model")
        if scale <= 0:
            raise ConfigError(f'"scale" should be above 0, not {scale:g}')
        self.scale, self.both = scale, both
        self._pad_id = model.config.pad_token_id or 0

    def collate(self, material: list[TextGroup], rng: np.random.Generator, *, training: bool) -> Batch:
        """`query_ids`, `query_mask` (B, T), `passage_ids`, `passage_mask` (B, 1 + N, T'), and `known` (B, P): passages
        in the order of the softmax, true where one answers the query and is not its own."""
        width = {len(group.keys) for group in material}
        if len(width) != 1:
            raise DataError("all groups of a batch have as many hard negatives", hint=f"here: {sorted(width)}")
        queries = [group.query_ids for group in material]
        passages = [ids for group in material for ids in group.passage_ids]
        query_ids, passage_ids = padded(queries, self._pad_id), padded(passages, self._pad_id)
        shape = (len(material), width.pop(), passage_ids.shape[1])
        columns = [group.keys[n] for n in range(shape[1]) for group in material]  # right ones first, as P is laid out
        known = np.array([[key in group.relevant for key in columns] for group in material])
        known[np.arange(len(material)), np.arange(len(material))] = False
        arrays = {
            "query_ids": query_ids,
            "query_mask": mask_of(queries, query_ids.shape[1]),
            "passage_ids": passage_ids.reshape(shape),
            "passage_mask": mask_of(passages, passage_ids.shape[1]).reshape(shape),
            "known": known,
        }
        return Batch(arrays=arrays, weight=len(material), items=len(material))

    def _vectors(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(N, T) ids -> (N, E), of length one."""
        hidden = self.encoder.hidden_states(ids, mask, unpad=None)
        return F.normalize(self.pooling(hidden, mask), dim=-1)

    def similarity(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """(B, P) cosines times `scale`: all right passages, then everybody's first hard negative, and so on."""
        queries = self._vectors(arrays["query_ids"], arrays["query_mask"])
        ids, mask = (arrays[name].transpose(0, 1).flatten(0, 1) for name in ("passage_ids", "passage_mask"))
        return self.scale * queries @ self._vectors(ids, mask).t()

    def _nats(self, logits: Tensor, known: Tensor) -> Tensor:
        labels = torch.arange(len(logits), device=logits.device)
        logits = logits.masked_fill(known, -torch.inf)
        forth = F.cross_entropy(logits, labels, reduction="sum")
        if not self.both:
            return forth
        return (forth + F.cross_entropy(logits[:, : len(logits)].t(), labels, reduction="sum")) / 2

    def loss(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Summed nats over queries."""
        return self._nats(self.similarity(arrays), arrays["known"])

    def figures(self, arrays: Mapping[str, Tensor]) -> Mapping[str, float]:
        """The loss, and how often the best of the batch is the right one."""
        logits, known = self.similarity(arrays), arrays["known"]
        labels = torch.arange(len(logits), device=logits.device)
        best = logits.masked_fill(known, -torch.inf).argmax(1)
        return {
            "nats_per_pair": float(self._nats(logits, known)),
            "recall_in_batch": float((best == labels).sum()),
        }
