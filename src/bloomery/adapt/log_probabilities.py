"""Log-probabilities of given tokens under a decoder, with gradients, a few rows of logits at a time.

Preference losses weigh every sequence differently, so the summed loss of `training.linear_cross_entropy` is not enough:
here each token keeps its own value. Logits of a chunk are made, read and forgotten, and made again for the backward
pass (Chen et al. 2016, arXiv 1604.06174), so that (B, T, V) is never in memory. The softmax is float32. This module
does not know any loss. Shapes: B rows, T tokens, N labelled tokens, E hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bloomery.models import Decoder
from bloomery.training.linear_cross_entropy import IGNORED

# Of float32 logits at a time: a share of a core's caches, or of a GPU's memory.
_CPU_CHUNK_BYTES = 8 * 1024 * 1024
_GPU_CHUNK_BYTES = 256 * 1024 * 1024


def chunks(rows: int, vocabulary: int, device: torch.device) -> Iterator[slice]:
    """Rows in parts whose float32 logits stay small."""
    limit = _GPU_CHUNK_BYTES if device.type == "cuda" else _CPU_CHUNK_BYTES
    step = max(16, limit // (4 * vocabulary))
    for start in range(0, rows, step):
        yield slice(start, start + step)


def remade(work: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """`work(*inputs)`, whose intermediate tensors are made again in the backward pass instead of being kept."""
    if not torch.is_grad_enabled():
        return work(*inputs)
    made = checkpoint(work, *inputs, use_reentrant=False, preserve_rng_state=False)
    assert isinstance(made, Tensor)
    return made


def logits_of(hidden: Tensor, weight: Tensor, softcap: float | None, temperature: float = 1.0) -> Tensor:
    """(N, E) through the output head (V, E): float32 logits (N, V), capped as Gemma 2 does, over the temperature."""
    logits = F.linear(hidden, weight).float()
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    return logits if temperature == 1.0 else logits / temperature


def _chosen(hidden: Tensor, weight: Tensor, labels: Tensor, softcap: float | None, temperature: float) -> Tensor:
    return -F.cross_entropy(logits_of(hidden, weight, softcap, temperature), labels, reduction="none")


def labelled(labels: Tensor) -> Tensor:
    """The places (M,) of labels (N,) that are not -100."""
    return (labels != IGNORED).nonzero().squeeze(1)


def label_logprobs(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    softcap: float | None = None,
    temperature: float = 1.0,
    kept: Tensor | None = None,
) -> Tensor:
    """(N,) float32: the natural log-probability of each label (N,) under softmax(hidden @ weight.T / temperature).

    hidden (N, E), weight (V, E); 0 where a label is -100; `kept` is what `labelled` says of them, if that is known.
    Gradients flow to hidden and weight.
    """
    kept = labelled(labels) if kept is None else kept
    hidden, wanted = hidden.index_select(0, kept), labels[kept]
    parts = [
        remade(_chosen, hidden[part], weight, wanted[part], softcap, temperature)
        for part in chunks(len(kept), weight.size(0), hidden.device)
    ]
    found = torch.zeros(labels.shape, dtype=torch.float32, device=hidden.device)
    return found.index_put((kept,), torch.cat(parts)) if parts else found + 0.0 * hidden.sum()


def token_logprobs(model: Decoder, input_ids: Tensor, labels: Tensor, *, temperature: float = 1.0) -> Tensor:
    """(B, T) float32: of labels (B, T), the tokens that follow `input_ids` (B, T); 0 where a label is -100.

    Rows are padded at their ends: a causal model never looks there.
    """
    wanted = labels.flatten()
    kept = labelled(wanted)  # before the model computes: a GPU is waited for here, when it has nothing to do yet
    hidden = model.hidden_states(input_ids).flatten(0, 1)
    how = {"softcap": model.output_softcap, "temperature": temperature}
    return label_logprobs(hidden, model.output_weight, wanted, kept=kept, **how).view(labels.shape)
