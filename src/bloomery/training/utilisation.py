"""Utilisation: which share of the arithmetic that this machine can do in matrix products a training does for its model.

The peak is measured, here and now, on products of large square matrices, with the threads that training has. What a
training does is counted from the model: 6 operations for each weight of a matrix product and token (2 forward, 4
backward; Kaplan et al., arXiv 2001.08361), and attention over what each query sees. Whatever else a step takes time for
(norms, activations, the optimiser's own products) counts as none. This module does not know the loop.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from bloomery.models import Decoder
from bloomery.models.feed_forward import MixtureOfExperts

_SIZE = {"cpu": 1024, "cuda": 8192}
_SECONDS = 0.3
_CPU = torch.device("cpu")
_UNITS = ((1e12, "TFLOP/s"), (1e9, "GFLOP/s"), (1e6, "MFLOP/s"))


@dataclass(frozen=True, kw_only=True)
class Utilisation:
    """`done` and `peak`, both in floating-point operations a second."""

    done: float
    peak: float

    @property
    def share(self) -> float:
        """Of the peak, from 0 to about 1."""
        return self.done / self.peak

    @property
    def text(self) -> str:
        """As a person reads it: "utilisation 71% of 132 GFLOP/s"."""
        size, unit = next((pair for pair in _UNITS if self.peak >= pair[0]), _UNITS[-1])
        return f"utilisation {self.share:.0%} of {self.peak / size:.3g} {unit}"

    def to_dict(self) -> dict[str, float]:
        """As metrics."""
        return {"flops_per_second": self.done, "matrix_peak_flops": self.peak, "utilisation": self.share}


@cache
def matrix_peak(
    device: torch.device = _CPU, dtype: torch.dtype = torch.float32, *, seconds: float = _SECONDS, size: int = 0
) -> float:
    """Operations a second of the fastest of some products of square matrices of `size`, over `seconds`; measured once a
    process."""
    size = size or _SIZE.get(device.type, 2048)
    a = torch.full((size, size), 1.0 / size, dtype=dtype, device=device)
    b, out = a.clone(), torch.empty_like(a)
    best, started = float("inf"), time.perf_counter()
    while best == float("inf") or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        torch.mm(a, b, out=out)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - before)
    return 2.0 * size**3 / best


def token_flops(model: nn.Module, context_length: int) -> float:
    """Operations that training takes for each token of rows of `context_length`. For a decoder; of another model the
    matrix products alone. Of a mixture the experts that a token is given to."""
    weights = 0.0
    for module in model.modules():
        if isinstance(module, nn.Linear):
            weights += module.weight.numel()
        elif isinstance(module, MixtureOfExperts):
            inner = sum(part.weight.numel() for part in module.experts.modules() if isinstance(part, nn.Linear))
            weights -= inner * (1 - module.num_experts_per_tok / len(module.experts))
    if not isinstance(model, Decoder):
        return 6.0 * weights
    config = model.config
    weights += model.output_weight.numel() if model.lm_head is None else 0
    seen = 0.0
    for layer in range(config.num_hidden_layers):
        window = min(config.window(layer) or context_length, context_length)
        # Query t sees min(t, window) keys; their mean over a row, for the scores and for the values.
        seen += 2 * (window * (window + 1) / 2 + (context_length - window) * window) / context_length
    return 6.0 * (weights + seen * config.num_attention_heads * config.head_dim)


def utilisation(
    model: nn.Module, tokens_per_second: float, context_length: int, *, precision: str, device: torch.device
) -> Utilisation:
    """Of a training at `tokens_per_second` on `device` beside its peak, which is measured now."""
    peak = matrix_peak(device, torch.bfloat16 if precision == "bfloat16" else torch.float32)
    return Utilisation(done=tokens_per_second * token_flops(model, context_length), peak=peak)
