"""Muon: momentum whose matrix updates are orthogonalised, for the hidden matrices of a network.

Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), with Nesterov momentum,
decoupled weight decay and the shape factor sqrt(max(1, rows / columns)). Matrices of one shape are
orthogonalised together as one batch (see `orthogonal`), and in the dtype that the caller measured to be fast:
torch.optim.Muon always takes bfloat16, which a CPU without bfloat16 instructions computes tens of times slower than
float32. Refinements, each by itself: the polynomials of Polar Express (Amsel et al., arXiv 2505.16932), a second moment
for each neuron (NorMuon; Li et al., arXiv 2510.05491), weight decay only where the update goes the same way (Chen et
al., arXiv 2510.12402), momentum that warms up, and orthogonalising in blocks (MuonBP; Khaled et al., arXiv 2510.16981),
which costs a fraction where a batch is small; now and then a matrix is orthogonalised whole, other matrices at other
steps, so that all steps cost about the same.

This module does not know which parameters are hidden matrices (see `optimizers`), nor the schedule.
"""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

from bloomery.training.orthogonal import orthogonalize

MOMENTUM_START = 0.85
"""Where momentum begins that warms up: modded-nanogpt's and nanochat's choice."""
_TINY = 1e-10
_ATTENTION = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight")
_WRITES = ("o_proj.weight", "down_proj.weight")
"""Matrices whose neurons are columns."""


def feed_block(neurons: int, stream: int, least: int) -> int:
    """How many neurons of a feed-forward are orthogonalised together: equal blocks of at least so many, no fewer than a
    third of the residual stream's width, below which they learn less, and fewer than that width, from which on they are
    not cheaper; 0: all."""
    if not least:
        return 0
    least = max(least, -(-stream // 3))
    return next((size for size in range(least, min(neurons // 2 + 1, stream)) if neurons % size == 0), 0)


def turn(name: str) -> int:
    """Neighbouring layers' matrices follow each other, and one layer's are spread: about as many a step."""
    layers = [int(number) for number in re.findall(r"\d+", name)]
    return sum(layers) + zlib.crc32(re.sub(r"\d+", "", name).encode())


class Muon(torch.optim.Optimizer):
    """`params` are (name, matrix) pairs; every matrix is (rows, columns) as in `nn.Linear.weight`.

    lr: step length, in units of the spectral norm of the update. momentum: Nesterov momentum, reached from
    MOMENTUM_START over `momentum_warmup` steps (0: at once). weight_decay: decoupled, multiplied by lr; with `cautious`
    only of weights that the update does not make larger. blocks: neurons of an attention that are orthogonalised
    together, and of a feed-forward at least (see `feed_block`); 0: all of a matrix; the update is as long as a whole
    one. whole_every: every so many steps a matrix that is cut into blocks is orthogonalised whole, each at its own
    turn; 0: never. second_beta: of the mean square of each neuron's update (a row, or a column of a matrix with fewer
    rows than columns), by whose root it is divided; the update's norm stays; 0: it is not. polynomial and iterations:
    see `orthogonalize`, as compute_dtype.
    """

    def __init__(
        self,
        params: Iterable[tuple[str, Tensor]],
        *,
        lr: float,
        momentum: float = 0.95,
        momentum_warmup: int = 0,
        weight_decay: float = 0.0,
        cautious: bool = False,
        second_beta: float = 0.0,
        blocks: tuple[int, int] = (0, 0),
        whole_every: int = 0,
        polynomial: str = "newton_schulz",
        iterations: int = 5,
        compute_dtype: torch.dtype = torch.float32,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(list(params), defaults)
        self.compute_dtype, self.polynomial, self.iterations = compute_dtype, polynomial, iterations
        self.momentum_warmup, self.cautious, self.second_beta = momentum_warmup, cautious, second_beta
        self.blocks, self.whole_every = blocks, whole_every
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim != 2:
                    raise ValueError(f"Muon takes matrices, not shape {tuple(parameter.shape)}")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[tuple[torch.Size, bool, int], list[Tensor]] = defaultdict(list)
            # Names tell apart what is cut into blocks; whoever replaces parameters need not care where nothing is.
            names = group["param_names"] if any(self.blocks) else [""] * len(group["params"])
            for name, parameter in zip(names, group["params"], strict=True):
                if parameter.grad is not None:
                    taken = self._count(parameter)
                    writes = any(self.blocks) and name.endswith(_WRITES)
                    block = 0 if self._whole(name, taken) else self._block(name, parameter, writes=writes)
                    by_shape[parameter.shape, writes, block].append(parameter)
            for (_, writes, block), parameters in by_shape.items():
                self._step_shape(parameters, group, block, writes=writes)

    def _count(self, parameter: Tensor) -> int:
        """How many steps a parameter has taken; counted only where something hangs on it."""
        if not (self.momentum_warmup or (self.whole_every and any(self.blocks))):
            return 0
        step = self.state[parameter].setdefault("step", torch.zeros(()))
        step += 1
        return int(step) - 1

    def _block(self, name: str, parameter: Tensor, *, writes: bool) -> int:
        """How many neurons of a matrix are orthogonalised together; 0: all."""
        neurons, stream = parameter.shape[::-1] if writes else parameter.shape
        head, least = self.blocks
        return head if name.endswith(_ATTENTION) else feed_block(neurons, stream, least)

    def _whole(self, name: str, taken: int) -> bool:
        """Whether it is a matrix's turn to be orthogonalised whole: by its name, for ranks hold some matrices each."""
        return bool(self.whole_every) and (taken + turn(name)) % self.whole_every == 0

    def _step_shape(self, parameters: list[Tensor], group: dict, block: int, *, writes: bool) -> None:
        lr = group["lr"]
        rows, columns = parameters[0].shape
        updates = torch.empty(len(parameters), rows, columns, dtype=parameters[0].dtype, device=parameters[0].device)
        for parameter, update in zip(parameters, updates.unbind(0), strict=True):
            buffer, gradient = self._buffer(parameter), parameter.grad
            assert gradient is not None
            momentum = self._momentum(parameter, group["momentum"])
            buffer.lerp_(gradient, 1 - momentum)
            torch.lerp(gradient, buffer, momentum, out=update)
        orthogonal = self._orthogonal(updates, block, writes=writes)
        if self.second_beta:
            orthogonal = self._evened(parameters, orthogonal)
        scale, decay = max(1.0, rows / columns) ** 0.5, lr * group["weight_decay"]
        for parameter, update in zip(parameters, orthogonal.unbind(0), strict=True):
            update = update.to(parameter.dtype)
            if decay and self.cautious:
                parameter.addcmul_(parameter, (update * parameter) >= 0, value=-decay)
            elif decay:
                parameter.mul_(1 - decay)
            parameter.add_(update, alpha=-lr * scale)

    def _orthogonal(self, updates: Tensor, block: int, *, writes: bool) -> Tensor:
        """(N, R, C) orthogonalised, whole or in blocks of neurons; `writes`: they are columns, for the matrix writes
        into the residual stream."""
        how = {"polynomial": self.polynomial, "iterations": self.iterations, "dtype": self.compute_dtype}
        neurons = updates.size(-1 if writes else -2)
        if not block or neurons <= block or neurons % block:
            return orthogonalize(updates, **how)
        count, rows, columns = updates.shape
        stream = rows if writes else columns
        blocks = (updates.mT if writes else updates).reshape(-1, block, stream)
        made = orthogonalize(blocks, **how).reshape(count, neurons, stream)
        made *= (min(rows, columns) / (neurons // block * min(block, stream))) ** 0.5
        return made.mT if writes else made

    def _buffer(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]

    def _momentum(self, parameter: Tensor, full: float) -> float:
        """The momentum of the step that a parameter takes now."""
        if not self.momentum_warmup:
            return full
        share = min(1.0, (float(self.state[parameter]["step"]) - 1) / self.momentum_warmup)
        start = min(MOMENTUM_START, full)
        return start + share * (full - start)

    def _evened(self, parameters: list[Tensor], updates: Tensor) -> Tensor:
        """Updates (N, R, C) with every neuron's divided by the root of its mean square so far; norms as before."""
        axis = -1 if updates.size(-2) >= updates.size(-1) else -2
        size = updates.size(axis)
        norms = torch.linalg.vector_norm(updates, dim=axis, keepdim=True, dtype=torch.float32)  # (N, R, 1) or (N, 1, C)
        squares = norms.square() / size
        scales = []
        for parameter, square in zip(parameters, squares.unbind(0), strict=True):
            state = self.state[parameter]
            if "second_moment" not in state:
                state["second_moment"] = torch.zeros_like(square)
            state["second_moment"].lerp_(square, 1 - self.second_beta)
            scales.append(state["second_moment"].clamp_min(_TINY).rsqrt())
        scale = torch.stack(scales)
        whole = norms.square().sum(dim=(-2, -1), keepdim=True).sqrt()
        evened = (norms * scale).square().sum(dim=(-2, -1), keepdim=True).sqrt()
        return updates * (scale * (whole / evened.clamp_min(_TINY))).to(updates.dtype)
