"""Muon: momentum whose matrix updates are orthogonalised, for the hidden matrices of a network.

Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), with Nesterov momentum,
decoupled weight decay and the shape factor sqrt(max(1, rows / columns)). Matrices of one shape are
orthogonalised together as one batch, and in the dtype that the caller measured to be fast: torch.optim.Muon
always takes bfloat16, which a CPU without bfloat16 instructions computes tens of times slower than float32.

This module does not know which parameters are hidden matrices (see `optimizers`), nor the schedule.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

# Quintic Newton-Schulz coefficients of the reference implementation: they maximise the slope at zero and
# bring singular values into about [0.7, 1.2] rather than exactly to one.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5
_EPSILON = 1e-7


class Muon(torch.optim.Optimizer):
    """`params` are (name, matrix) pairs; every matrix is (rows, columns) as in `nn.Linear.weight`.

    lr: step length, in units of the spectral norm of the update. momentum: Nesterov momentum.
    weight_decay: decoupled, multiplied by lr. compute_dtype: dtype of the Newton-Schulz iteration.
    """

    def __init__(
        self,
        params: Iterable[tuple[str, Tensor]],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        compute_dtype: torch.dtype = torch.float32,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(list(params), defaults)
        self.compute_dtype = compute_dtype
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim != 2:
                    raise ValueError(f"Muon takes matrices, not shape {tuple(parameter.shape)}")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for parameters in by_shape.values():
                self._step_shape(parameters, group)

    def _step_shape(self, parameters: list[Tensor], group: dict) -> None:
        momentum, lr = group["momentum"], group["lr"]
        updates = []
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            buffer, gradient = state["momentum_buffer"], parameter.grad
            assert gradient is not None
            buffer.lerp_(gradient, 1 - momentum)
            updates.append(gradient.lerp(buffer, momentum))
        orthogonal = orthogonalize(torch.stack(updates), dtype=self.compute_dtype)
        rows, columns = parameters[0].shape
        scale = max(1.0, rows / columns) ** 0.5
        for parameter, update in zip(parameters, orthogonal.unbind(0), strict=True):
            if group["weight_decay"]:
                parameter.mul_(1 - lr * group["weight_decay"])
            parameter.add_(update.to(parameter.dtype), alpha=-lr * scale)


def orthogonalize(matrices: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Bring the singular values of a batch of matrices (N, R, C) near one, keeping their singular vectors.

    Five quintic Newton-Schulz iterations in `dtype`; returns that dtype.
    """
    x = matrices.to(dtype)
    transposed = x.size(-2) > x.size(-1)
    if transposed:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + _EPSILON)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C)
        x = torch.baddbmm(x, polynomial, x, beta=_A)
    return x.mT if transposed else x
