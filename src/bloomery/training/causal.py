"""The causal objective: predict each next token of packed documents; validated in bits per byte.

This module does not know optimisers or schedules. Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bloomery.models import Decoder
from bloomery.tokenizer import PackedRows, TokenShards, evaluation_rows
from bloomery.training.linear_cross_entropy import IGNORED, linear_cross_entropy
from bloomery.training.objective import (
    Batch,
    Validation,
    evaluating,
    own_batches,
    precision_context,
    take,
    to_device,
    totals,
)

HiddenStates = Callable[[Tensor], Tensor]
_CUTS = 4


def row_cuts(context_length: int) -> int:
    """Into how many short ones a row of so many tokens is cut; 1 where it cannot be."""
    return 1 if context_length % _CUTS else _CUTS


def cut_rows(input_ids: Tensor, cuts: int) -> Tensor:
    """(B, T) -> (B * cuts, T / cuts): each row as so many short ones, in their order."""
    return input_ids.unflatten(1, (cuts, -1)).flatten(0, 1)


def causal_loss(
    hidden_states: HiddenStates,
    output_weight: Tensor,
    input_ids: Tensor,
    labels: Tensor,
    *,
    softcap: float | None = None,
) -> Tensor:
    """Summed negative log-likelihood in nats over labels that are not -100; input_ids and labels are (B, T).

    `hidden_states` is a decoder's method of that name, compiled or not, `output_weight` its head (V, E), `softcap`
    its output_softcap.
    """
    hidden = hidden_states(input_ids)
    return linear_cross_entropy(hidden.flatten(0, 1), output_weight, labels.flatten(), softcap=softcap)


class CausalObjective:
    """Next tokens of `rows`, for a decoder. `hidden_states` is its method of that name, compiled; by default not."""

    unit = "tok"
    divisible = True
    packed = True

    def __init__(
        self,
        model: Decoder,
        rows: PackedRows,
        validation: TokenShards | None,
        *,
        validation_rows: int = 64,
        hidden_states: HiddenStates | None = None,
        short_rows: int = 0,
    ) -> None:
        """Each of the first `short_rows` rows is read as four short ones: attention costs less while there is little to
        be learnt from afar (sequence length warm-up; Li et al., arXiv 2108.06084)."""
        self.model: Decoder = model
        self.short_rows, self._cuts = short_rows, 1
        self.rows, self.validation, self.validation_rows = rows, validation, validation_rows
        self.hidden_states = hidden_states or model.hidden_states

    def next_batch(self, rows: int) -> Batch:
        """`input_ids` and `labels`, both (B, T)."""
        short = self.short_rows > self.rows.stats["rows"]
        self._cuts = row_cuts(self.rows.context_length) if short else 1
        input_ids, labels = self.rows.next_batch(rows)
        tokens = int((labels != IGNORED).sum())
        return Batch(arrays={"input_ids": input_ids, "labels": labels}, weight=tokens, items=tokens)

    def loss(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Summed nats."""
        model = self.model
        return causal_loss(
            self.hidden_states,
            model.output_weight,
            cut_rows(arrays["input_ids"], self._cuts),
            arrays["labels"],
            softcap=model.output_softcap,
        )

    def can_validate(self) -> bool:
        """Whether the validation split has tokens."""
        return self.validation is not None and self.validation.num_tokens > 0

    def validate(self, batches: int | None, device: torch.device, precision: str) -> Validation:
        """`bits_per_byte` and `nats_per_token`."""
        assert self.validation is not None
        shards, length = self.validation, self.rows.context_length
        with evaluating(self.model):
            return bits_per_byte(
                self.model,
                take(evaluation_rows(shards, length, self.validation_rows), batches),
                text_bytes=shards.text_bytes,
                total_tokens=int(shards.num_labels().sum()),
                device=device,
                precision=precision,
            )

    def state_dict(self) -> dict[str, Any]:
        """Where the rows stand."""
        return self.rows.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the rows stood."""
        self.rows.load_state_dict(state)

    def stats(self) -> dict[str, Any]:
        """How the rows were packed."""
        return {"packing": dict(self.rows.stats)}


@torch.no_grad()
def bits_per_byte(
    model: Decoder,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    text_bytes: int,
    total_tokens: int,
    device: torch.device,
    precision: str,
) -> Validation:
    """Mean loss over `batches` of (input_ids, labels), which may be only the first part of a split.

    Bits per byte are nats per token x tokens per byte / ln 2, with the tokens per byte of the whole split
    (`total_tokens` labels for `text_bytes` bytes), so that a part gives an unbiased figure.
    """
    nats, tokens = 0.0, 0
    for input_ids, labels in own_batches(batches):
        inputs = to_device({"input_ids": input_ids, "labels": labels}, device)
        with precision_context(device, precision):
            loss = causal_loss(
                model.hidden_states,
                model.output_weight,
                inputs["input_ids"],
                inputs["labels"],
                softcap=model.output_softcap,
            )
            nats += float(loss)
        tokens += int((labels != IGNORED).sum())
    whole = totals({"nats": nats, "tokens": tokens})
    nats, tokens = whole["nats"], int(whole["tokens"])
    mean = nats / max(1, tokens)
    bits = mean * total_tokens / max(1, text_bytes) / math.log(2)
    return Validation({"bits_per_byte": bits, "nats_per_token": mean}, "bits_per_byte")
