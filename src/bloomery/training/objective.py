"""The causal objective: predict each next token; and its validation in bits per byte.

This module does not know optimisers or data order. Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bloomery.models import Decoder
from bloomery.training.linear_cross_entropy import IGNORED, linear_cross_entropy

HiddenStates = Callable[[Tensor], Tensor]


def precision_context(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Autocast to bfloat16 for precision "bfloat16", nothing for "float32"."""
    if precision == "bfloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


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


def to_device(arrays: tuple[np.ndarray, np.ndarray], device: torch.device) -> tuple[Tensor, Tensor]:
    """Two integer arrays (B, T) as tensors on the device; the copy to a GPU does not wait."""
    first, second = (torch.from_numpy(a) for a in arrays)
    if device.type == "cuda":
        return (
            first.pin_memory().to(device, non_blocking=True),
            second.pin_memory().to(device, non_blocking=True),
        )
    return first, second


@dataclass(frozen=True)
class ValidationLoss:
    """`nats_per_token` over `tokens` labels, and `bits_per_byte` over the UTF-8 bytes of the text they spell."""

    nats_per_token: float
    bits_per_byte: float
    tokens: int


@torch.no_grad()
def validate(
    model: Decoder,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    text_bytes: int,
    total_tokens: int,
    device: torch.device,
    precision: str,
) -> ValidationLoss:
    """Mean loss over `batches`, which may be only the first part of a split.

    Bits per byte are nats per token x tokens per byte / ln 2, with the tokens per byte of the whole split
    (`total_tokens` labels for `text_bytes` bytes), so that a part gives an unbiased figure.
    """
    nats, tokens = 0.0, 0
    for arrays in batches:
        input_ids, labels = to_device(arrays, device)
        with precision_context(device, precision):
            loss = causal_loss(
                model.hidden_states, model.output_weight, input_ids, labels, softcap=model.output_softcap
            )
            nats += float(loss)
        tokens += int((arrays[1] != IGNORED).sum())
    mean = nats / max(1, tokens)
    return ValidationLoss(mean, mean * total_tokens / max(1, text_bytes) / math.log(2), tokens)


def take(batches: Iterator[tuple[np.ndarray, np.ndarray]], count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The first `count` batches."""
    for _, batch in zip(range(count), batches, strict=False):
        yield batch
