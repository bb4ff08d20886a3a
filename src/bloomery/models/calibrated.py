"""Integers for weights such that what layers give for real inputs changes least: GPTQ (Frantar et al., 2210.17323).

With H the sum of x xT over the inputs x of a layer on some text, rounding W to Q costs tr((W - Q) H (W - Q)T). Inputs
are rounded one after another, the largest on the text first, and what each rounding does to the outputs is made good
by those that come after, as far as they can:

    error = (w_i - q_i) / U_ii;   w_j -= error U_ij for j > i;   U the upper Cholesky factor of H^-1

Scales are chosen before, in groups of neighbouring inputs, with each input's error weighed by its sum of squares, so
that files look like any others. All inputs are of the float model, read once; the paper reads each layer's anew after
the layers before it are rounded, for as many times the work. Shapes: O outputs, I inputs. This module does not know
files or texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from bloomery.models.decoder import Decoder
from bloomery.models.packing import grouped_layers
from bloomery.models.quantize import QuantizedWeight, divides, quantize

_DAMPING = 0.01
"""Of the mean sum of squares, added to all: inputs that hardly occur are then left alone (the paper's figure)."""
_SHARE = 0.25
"""Of the memory that is free: for sums of x xT of several layers."""
_BLOCK = 128
"""Inputs after which all later ones are corrected at once."""


_Group = tuple[list[str], list[Any]]
"""Names and layers that read the same."""


@torch.no_grad()
def calibrated(
    decoder: Decoder,
    bits: int,
    group_size: int | None,
    batches: Iterable[Tensor],
    *,
    scale_dtype: torch.dtype = torch.bfloat16,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, QuantizedWeight]:
    """The layers' integers by name, fitted to the ids (B, T) of some texts; those that groups do not divide and those
    that no token came to are left out. `progress` hears how many layers are done, of how many.

    A layer that this would make worse, by the cost above, is rounded by itself. The texts are read as often as the
    sums of x xT need it to take no more than a quarter of the memory that is free.
    """
    layers = [
        ([f"{path}.{name}".lstrip(".") for name in names], [getattr(parent, name) for name in names])
        for path, parent, names in grouped_layers(decoder)
    ]
    texts, number = list(batches), 0
    found: dict[str, QuantizedWeight] = {}
    for part in _fitting(layers, int(psutil.virtual_memory().available * _SHARE)):
        with _inputs_of([members[0] for _, members in part]) as squares:
            for ids in texts:
                decoder.hidden_states(ids)
        for names, members in part:
            hessian = squares.pop(id(members[0]), None)
            for name, layer in zip(names, members, strict=True):
                if hessian is not None and divides(layer.weight, group_size):
                    found[name] = fitted(layer.weight, hessian, bits, group_size, scale_dtype=scale_dtype)
            progress(number := number + 1, len(layers))
    return found


def _fitting(layers: list[_Group], room: int) -> Iterator[list[_Group]]:
    """Groups of layers, as many at a time as have room for their sums, one at least."""
    part: list[_Group] = []
    taken = 0
    for group in layers:
        size = 4 * group[1][0].weight.size(1) ** 2
        if part and taken + size > room:
            yield part
            part, taken = [], 0
        part.append(group)
        taken += size
    if part:
        yield part


@contextmanager
def _inputs_of(layers: Iterable[nn.Module]) -> Iterator[dict[int, Tensor]]:
    """Inside, the sums of x xT (I, I) float32 of all inputs that come to some layers, by their id."""
    squares: dict[int, Tensor] = {}

    def add(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].detach().flatten(0, -2).float()
        if len(x):
            known = squares.get(id(layer))
            squares[id(layer)] = x.T @ x if known is None else known.addmm_(x.T, x)

    hooks = [layer.register_forward_pre_hook(add) for layer in layers]
    try:
        yield squares
    finally:
        for hook in hooks:
            hook.remove()


def fitted(
    weight: Tensor,
    hessian: Tensor,
    bits: int,
    group_size: int | None = None,
    *,
    scale_dtype: torch.dtype = torch.bfloat16,
) -> QuantizedWeight:
    """(O, I) rounded such that outputs change least for inputs whose x xT sum up to `hessian` (I, I)."""
    weight, hessian = weight.detach().float(), hessian.double()
    if not bool(hessian.diagonal().sum() > 0):
        return quantize(weight, bits, group_size, scale_dtype=scale_dtype)
    damped = hessian + torch.eye(len(hessian), dtype=torch.float64) * (_DAMPING * hessian.diagonal().mean())
    squares = damped.diagonal()
    plain = quantize(weight, bits, group_size, scale_dtype=scale_dtype, importance=squares.float())
    order = squares.argsort(descending=True, stable=True)
    factor = _inverse_factor(damped[order][:, order]).float()
    scales = plain.scale.repeat_interleave(plain.group_size, dim=1)[:, order]
    codes = torch.empty_like(plain.codes)
    codes[:, order] = _in_turn(weight[:, order], scales, factor, bits)
    made = QuantizedWeight(codes, plain.scale, bits)
    better = cost(weight, made, hessian) < cost(weight, plain, hessian)
    return made if better else plain


def cost(weight: Tensor, rounded: QuantizedWeight, hessian: Tensor) -> float:
    """Squared change of all outputs: tr((W - Q) H (W - Q)T)."""
    error = weight.double() - rounded.dequantized().double()
    return float(((error @ hessian.double()) * error).sum())


def _inverse_factor(matrix: Tensor) -> Tensor:
    """Upper U with UT U the inverse of a positive definite matrix."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(matrix))
    return torch.linalg.cholesky(inverse, upper=True)


def _in_turn(weight: Tensor, scales: Tensor, factor: Tensor, bits: int) -> Tensor:
    """Codes (O, I) of inputs rounded from the first to the last, each error made good by those after it."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    left, codes = weight.clone(), torch.empty(weight.shape, dtype=torch.int8)
    for start in range(0, weight.size(1), _BLOCK):
        stop = min(start + _BLOCK, weight.size(1))
        errors = torch.empty(weight.size(0), stop - start)
        for i in range(start, stop):
            code = torch.round(left[:, i] / scales[:, i]).clamp_(low, high)
            errors[:, i - start] = (left[:, i] - code * scales[:, i]) / factor[i, i]
            left[:, i + 1 : stop] -= errors[:, i - start, None] * factor[i, i + 1 : stop]
            codes[:, i] = code.to(torch.int8)
        left[:, stop:] -= errors @ factor[start:stop, stop:]
    return codes
