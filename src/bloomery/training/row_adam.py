"""RowAdam: Adam for tables of which a batch touches few rows: only those rows are read and written.

A table of hashed pairs has ten times as many rows as a batch has tokens, and a dense step would go through the table
and both moments for nothing. What is untouched keeps its moments too ("lazy" Adam, as torch.optim.SparseAdam has it),
but each row counts its own steps, so that a rare one's first update is as long as a common one's. Gradients are dense:
a row is touched if it has one that is not zero, whoever summed it up. This module does not know models.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class RowAdam(torch.optim.Optimizer):
    """`params` are tables (rows, columns), or groups of them. lr: step length. betas: of both moments, by each row's
    own steps. Without weight decay."""

    def __init__(
        self, params: Iterable[Any], *, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.95), eps: float = 1e-8
    ) -> None:
        super().__init__(list(params), {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the rows that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, parameter.grad, group)

    def _step(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["steps"] = torch.zeros(parameter.size(0), 1, device=parameter.device)
        rows = gradient.count_nonzero(dim=1).nonzero()[:, 0]
        if not rows.numel():
            return
        first, second = group["betas"]
        some = gradient[rows]
        steps = state["steps"][rows] + 1
        mean = state["exp_avg"][rows].lerp_(some, 1 - first)
        square = state["exp_avg_sq"][rows].mul_(second).addcmul_(some, some, value=1 - second)
        for name, value in (("steps", steps), ("exp_avg", mean), ("exp_avg_sq", square)):
            state[name].index_copy_(0, rows, value)
        length = group["lr"] / (1 - first**steps)
        root = square.div_(1 - second**steps).sqrt_().add_(group["eps"])
        parameter.index_add_(0, rows, mean.mul(length).div_(root), alpha=-1)
