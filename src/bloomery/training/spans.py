"""Span corruption: restore what was taken out of a text (Raffel et al., arXiv 1910.10683), for encoder-decoders.

This module does not know how spans are chosen (see `corruption`). Shapes: B rows, S source and T target length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.models.seq2seq import Seq2Seq
from bloomery.tokenizer import Tokenizer
from bloomery.training.batches import HELD_OUT, BatchObjective
from bloomery.training.corruption import SpanConfig, corrupt_spans
from bloomery.training.linear_cross_entropy import IGNORED
from bloomery.training.loader import RowLoader, TokenRows
from bloomery.training.objective import Batch
from bloomery.training.sequence import target_batch, target_figures, target_loss


class SpanObjective(BatchObjective[TokenRows]):
    """Spans of packed rows, for an encoder-decoder. A row is corrupted as a whole, document ends included."""

    packed = True

    def __init__(
        self, model: Seq2Seq, loader: RowLoader, tokenizer: Tokenizer, config: SpanConfig, *, seed: int
    ) -> None:
        super().__init__(model, loader, seed=seed)
        self.seq2seq, self.spans = model, config
        self.sentinels = np.array(tokenizer.sentinel_ids, dtype=np.int64)
        if len(self.sentinels) < 2:
            raise ConfigError(
                "span corruption needs sentinel tokens, which this tokenizer has not",
                hint="train one with --set tokenizer.sentinels=100",
            )

    def collate(self, material: TokenRows, rng: np.random.Generator, *, training: bool) -> Batch:
        """`source_ids` (B, S), `decoder_input_ids` and `labels` (B, T), padded."""
        config = self.seq2seq.config
        sources, targets = [], []
        for ids, following in zip(*material, strict=True):
            real = ids[following != IGNORED]
            if len(real) < 2:
                continue
            source, target = corrupt_spans(real, rng, self.spans, sentinels=self.sentinels, end_id=config.eos_token_id)
            sources.append(source)
            targets.append(target)
        return target_batch(sources, targets, start_id=config.decoder_start_token_id, pad_id=config.pad_token_id)

    def held_out(self) -> Iterator[Batch]:
        """As they come, but for an end of validation of a single token: there is nothing to take out of it."""
        for place, material in enumerate(self.loader.held_out()):
            if ((material[1] != IGNORED).sum(1) >= 2).any():
                yield self.collate(material, np.random.default_rng([self.seed, HELD_OUT, place]), training=False)

    def loss(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Summed nats over the targets."""
        return target_loss(self.seq2seq, arrays)

    def figures(self, arrays: Mapping[str, Tensor]) -> Mapping[str, float]:
        """Nats and accuracy of the targets' tokens, given the true ones before them."""
        return target_figures(self.seq2seq, arrays)
