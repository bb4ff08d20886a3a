"""Output head and cross-entropy in one, a few rows at a time: the logits of a batch are never all in memory.

For a small model with a vocabulary of thousands most of a training step goes into writing and reading logits. Here
each chunk's logits live in the processor's cache just long enough to give the loss and both gradients, which are
ready when the forward pass ends (the idea of Liger's fused linear cross-entropy, Hsu et al. 2024, arXiv 2410.10989,
written with plain PyTorch operations). This module does not know models. Shapes: N tokens, E hidden, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

IGNORED = -100
# A chunk of float32 logits that stays in a core's second-level cache; a GPU wants larger ones.
_CPU_CHUNK_BYTES = 2 * 1024 * 1024
_GPU_CHUNK_BYTES = 256 * 1024 * 1024


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        labels: Tensor,
        compute_dtype: torch.dtype,
        needs_gradient: bool,
        softcap: float | None,
    ) -> Tensor:
        head = weight.to(compute_dtype)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if needs_gradient else None
        trains_head = needs_gradient and weight.requires_grad
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if trains_head else None
        limit = _GPU_CHUNK_BYTES if hidden.is_cuda else _CPU_CHUNK_BYTES
        rows = max(16, limit // (4 * weight.size(0)))
        for start in range(0, hidden.size(0), rows):
            part = hidden[start : start + rows].to(compute_dtype)
            wanted = labels[start : start + rows]
            ignored = (wanted == IGNORED).unsqueeze(1)
            target = wanted.clamp_min(0).unsqueeze(1)
            logits = (part @ head.T).float()
            capped = None if softcap is None else logits.div_(softcap).tanh_()
            logits = logits if capped is None or softcap is None else capped * softcap
            top = logits.amax(dim=-1, keepdim=True)
            wanted_logits = logits.gather(1, target) - top
            powers = logits.sub_(top).exp_()
            normaliser = powers.sum(dim=-1, keepdim=True)
            losses = (normaliser.log() - wanted_logits).masked_fill_(ignored, 0.0)
            total += losses.sum()
            if grad_hidden is None:
                continue
            # What is ignored is scaled by nothing, which costs no pass over all logits.
            probabilities = powers.mul_(normaliser.reciprocal_().masked_fill_(ignored, 0.0))
            probabilities.scatter_add_(1, target, ignored.to(losses.dtype) - 1)
            if capped is not None:
                probabilities.addcmul_(probabilities, capped.square_(), value=-1)
            gradient = probabilities.to(compute_dtype)
            grad_hidden[start : start + rows] = gradient @ head
            if grad_weight is not None:
                if gradient.dtype == torch.float32:
                    grad_weight.addmm_(gradient.T, part)
                else:
                    grad_weight += gradient.T @ part
        if grad_hidden is not None:
            ctx.save_for_backward(grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = grad_outputs
        grad_hidden, grad_weight = ctx.saved_tensors
        of_weight = None if grad_weight is None else grad_weight * scale.to(grad_weight.dtype)
        return grad_hidden * scale.to(grad_hidden.dtype), of_weight, *(None,) * 4


def linear_cross_entropy(hidden: Tensor, weight: Tensor, labels: Tensor, *, softcap: float | None = None) -> Tensor:
    """Summed negative log-likelihood in nats of labels (N,) under softmax(hidden @ weight.T); -100 is ignored.

    `softcap` c bounds the logits z to c tanh(z / c) (Gemma 2). hidden (N, E), weight (V, E). Matrix products run in
    the autocast dtype where autocast is on, in hidden's dtype elsewhere; the softmax is float32. Gradients flow to
    hidden and weight. ValueError for shapes that do not fit, a cap that is not above 0 and, on a CPU, for another
    negative label; one that is too large is PyTorch's own error.
    """
    if hidden.dim() != 2 or hidden.shape != (*labels.shape, weight.size(1)):
        shapes = ", ".join(str(tuple(one.shape)) for one in (hidden, weight, labels))
        raise ValueError(f"hidden (N, E), weight (V, E) and labels (N,) do not fit: {shapes}")
    if softcap is not None and not softcap > 0:
        raise ValueError(f"softcap should be above 0, not {softcap}")
    # Elsewhere looking at them would wait for the device.
    if labels.device.type == "cpu" and bool(((labels < 0) & (labels != IGNORED)).any()):
        raise ValueError(f"labels are ids from 0 up, or {IGNORED} where none is learnt")
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    with torch.autocast(kind, enabled=False):
        # Inside forward gradients look disabled, and under no_grad a parameter still says that it wants one.
        needs_gradient = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
        result = _LinearCrossEntropy.apply(hidden, weight, labels, dtype, needs_gradient, softcap)
    assert isinstance(result, Tensor)
    return result
