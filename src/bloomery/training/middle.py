"""Fill in the middle: some documents with their middle moved to the end, learnt as next tokens (arXiv 2207.14255).

Validation gives bits per byte of documents as they are, and nats per token of rearranged ones. What no longer fits
a row after the three marks were added is cut off. This module does not know how cuts are drawn (see `corruption`).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch

from bloomery.core.errors import ConfigError
from bloomery.models import Decoder
from bloomery.tokenizer import PackedRows, Tokenizer, TokenShards, evaluation_rows
from bloomery.training.causal import CausalObjective, bits_per_byte
from bloomery.training.corruption import MiddleConfig, MiddleTokens, move_middle
from bloomery.training.linear_cross_entropy import IGNORED
from bloomery.training.loader import TokenRows
from bloomery.training.objective import Batch, Validation, evaluating, take

_TRAIN, _HELD_OUT = 1, 2


class MiddleObjective(CausalObjective):
    """The causal objective over rows in which documents were rearranged."""

    def __init__(
        self,
        model: Decoder,
        rows: PackedRows,
        validation: TokenShards | None,
        tokenizer: Tokenizer,
        config: MiddleConfig,
        *,
        seed: int,
        validation_rows: int = 64,
    ) -> None:
        super().__init__(model, rows, validation, validation_rows=validation_rows)
        if tokenizer.middle_ids is None:
            raise ConfigError(
                "this tokenizer has no tokens that mark prefix, middle and suffix",
                hint="train one with --set tokenizer.fill_in_the_middle=true",
            )
        self.middle, self.seed = config, seed
        self.tokens = MiddleTokens(*tokenizer.middle_ids)
        self.bos_id = rows.shards.bos_id
        self._made = self._moved = self._documents = self._cut = 0

    def next_batch(self, rows: int) -> Batch:
        """`input_ids` and `labels`, both (B, T)."""
        rng = np.random.default_rng([self.seed, _TRAIN, self._made])
        input_ids, labels = self._rearrange(self.rows.next_batch(rows), rng)
        self._made += 1
        tokens = int((labels != IGNORED).sum())
        return Batch(arrays={"input_ids": input_ids, "labels": labels}, weight=tokens, items=tokens)

    def _rearrange(self, batch: TokenRows, rng: np.random.Generator) -> TokenRows:
        input_ids, labels = np.zeros_like(batch[0]), np.full_like(batch[1], IGNORED)
        length = input_ids.shape[1]
        for row, (ids, following) in enumerate(zip(*batch, strict=True)):
            made = [np.zeros(0, dtype=np.int64)]
            targets = [np.zeros(0, dtype=np.int64)]
            for text, end in self._segments(ids, following):
                moved, was_moved = move_middle(text, rng, self.middle, self.tokens)
                self._documents += 1
                self._moved += was_moved
                whole = np.concatenate([[self.bos_id], moved, end])
                made.append(whole[:-1])
                targets.append(whole[1:])
            row_ids, row_labels = np.concatenate(made), np.concatenate(targets)
            self._cut += max(0, len(row_ids) - length)
            kept = min(length, len(row_ids))
            input_ids[row, :kept], labels[row, :kept] = row_ids[:kept], row_labels[:kept]
        return input_ids, labels

    def _segments(self, ids: np.ndarray, following: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """The documents, or pieces, of a packed row: their text, and the end marker where the piece has one."""
        count = int((following != IGNORED).sum())
        starts = np.flatnonzero(ids[:count] == self.bos_id)
        pieces = []
        for start, stop in pairwise([*starts.tolist(), count]):
            labels = following[start:stop]
            ended = len(labels) and labels[-1] == self.rows.shards.end_id
            pieces.append((labels[:-1], labels[-1:]) if ended else (labels, labels[:0]))
        return pieces

    def validate(self, batches: int | None, device: torch.device, precision: str) -> Validation:
        """`bits_per_byte` and `nats_per_token` as the causal objective's, and `nats_per_token_rearranged`."""
        plain = super().validate(batches, device, precision)
        assert self.validation is not None
        rng = np.random.default_rng([self.seed, _HELD_OUT])
        counts = (self._moved, self._documents, self._cut)
        rows = take(evaluation_rows(self.validation, self.rows.context_length, self.validation_rows), batches)
        with evaluating(self.model):
            moved = bits_per_byte(
                self.model,
                (self._rearrange(batch, rng) for batch in rows),
                text_bytes=1,
                total_tokens=1,
                device=device,
                precision=precision,
            )
        self._moved, self._documents, self._cut = counts
        rearranged = {"nats_per_token_rearranged": moved.values["nats_per_token"]}
        return Validation({**plain.values, **rearranged}, plain.headline)

    def state_dict(self) -> dict[str, Any]:
        """Where the rows stand, and what was counted."""
        counts = {"made": self._made, "moved": self._moved, "documents": self._documents, "cut": self._cut}
        return {"rows": super().state_dict(), **counts}

    def load_state_dict(self, state: Any) -> None:
        """Go on there."""
        super().load_state_dict(state["rows"])
        self._made, self._moved = int(state["made"]), int(state["moved"])
        self._documents, self._cut = int(state["documents"]), int(state["cut"])

    def stats(self) -> dict[str, Any]:
        """How rows were packed, and what was rearranged and cut off."""
        counts = {"documents": self._documents, "rearranged": self._moved, "tokens_cut_off": self._cut}
        return {**super().stats(), "middle": counts}
