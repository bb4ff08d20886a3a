"""Packed texts: attention of several texts that lie one after the other in a single row, in few calls for all of them.

Two ways. Side by side: the texts are put into rows padded at their ends for attention alone, which a causal mask never
looks at; texts of very different lengths go into several such groups. By varlen: FlashAttention's kernel for texts of
any length (Dao, arXiv 2307.08691) through `torch.nn.attention.varlen`. This module does not know layers, nor which way
pays (see `attention`). Shapes: N tokens of all texts, H heads, D head_dim, G texts of a group, L its longest.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bloomery.core.errors import DeviceError

_WORTH_A_CALL = 4096
"""Tokens of padding that another group spares at least: below that its calls cost a GPU more than they save."""


class SideBySide:
    """Where the texts of a row stand in padded rows; made once for all layers.

    `groups` are (texts, longest) of each; `order` are the texts' lengths in the order in which they stand there.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        sizes = np.asarray(lengths, dtype=np.int64)
        order = np.argsort(-sizes, kind="stable")
        bounds = [0, *_splits(sizes[order].tolist()), len(order)]
        self.order = [sizes[order[first:last]].tolist() for first, last in pairwise(bounds)]
        self.groups = [(len(part), part[0]) for part in self.order]
        begins = np.empty(len(sizes), dtype=np.int64)
        start = 0
        for first, (count, longest) in zip(bounds, self.groups, strict=False):
            begins[order[first : first + count]] = start + np.arange(count) * longest
            start += count * longest
        self.padded = start
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        self.places = on_device(torch.from_numpy(np.repeat(begins, sizes) + within), device)

    def parts(self, x: Tensor) -> list[Tensor]:
        """(1, H, N, D) -> of each group (G, H, L, D), zeros at padding."""
        flat = x.squeeze(0).transpose(0, 1)
        whole = flat.new_zeros(self.padded, *flat.shape[1:]).index_copy(0, self.places, flat)
        pieces = whole.split([count * longest for count, longest in self.groups])
        return [
            piece.unflatten(0, (count, longest)).transpose(1, 2)
            for piece, (count, longest) in zip(pieces, self.groups, strict=True)
        ]

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """What `parts` took apart, (1, H, N, D)."""
        pieces = [part.transpose(1, 2).flatten(0, 1) for part in parts]
        whole = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        return whole.index_select(0, self.places).transpose(0, 1).unsqueeze(0)

    def masks(self, tensor: Tensor | None, causal: bool, device: torch.device) -> list[Tensor | None]:
        """Of each group what its queries see, or what is added to their scores, of a `tensor` (..., longest, longest)
        that counts from a text's start. Causal: padding is after all that is asked, and needs no mask."""
        found: list[Tensor | None] = []
        for lengths, (_, longest) in zip(self.order, self.groups, strict=True):
            own = None if tensor is None else tensor[..., :longest, :longest]
            if not causal:
                own = _hidden_padding(own, lengths, longest, device)
            found.append(own)
        return found


def _hidden_padding(own: Tensor | None, lengths: list[int], longest: int, device: torch.device) -> Tensor:
    """(G, ..., L, L). Padding sees itself, for a row that sees nothing has no softmax."""
    ends = on_device(torch.tensor(lengths), device)
    there = (torch.arange(longest, device=device) < ends[:, None])[:, None, None, :]
    itself = torch.eye(longest, dtype=torch.bool, device=device)
    if own is None:
        return there | itself
    if own.is_floating_point():
        return own.masked_fill(~(there | itself), -torch.inf)
    return (own & there) | itself


def _splits(lengths: list[int]) -> list[int]:
    """Where falling lengths are cut into groups: each cut spares enough padding to be worth the calls."""
    if not lengths:
        return []
    sizes = np.array(lengths)
    spared = np.arange(len(sizes), 0, -1) * (sizes[0] - sizes)
    best = int(spared.argmax())
    if spared[best] < _WORTH_A_CALL:
        return []
    return [*_splits(lengths[:best]), best, *(best + one for one in _splits(lengths[best:]))]


def attend_varlen(
    query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], *, causal: bool, scale: float, memo: dict
) -> Tensor:
    """(1, H, N, D), (1, H_kv, N, D) twice -> (1, H, N, D). DeviceError where the kernel is not: on CPUs, before PyTorch
    2.10, and in float32. `memo` keeps what the next layer needs again."""
    kernel, options = _varlen()
    if kernel is None or not _half_on_gpu(query):
        raise DeviceError(
            "varlen attention needs a GPU, PyTorch 2.10 or later, and half precision", hint="use sdpa_together"
        )
    if "varlen" not in memo:
        ends = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
        memo["varlen"] = on_device(ends, query.device)
    ends, longest = memo["varlen"], max(lengths)
    how: dict[str, Any] = {"scale": scale}
    if "window_size" in options:
        how["window_size"] = (-1, 0) if causal else (-1, -1)
    else:
        how["is_causal"] = causal
    if query.size(1) != key.size(1):
        if "enable_gqa" in options:
            how["enable_gqa"] = True
        else:
            key, value = (x.repeat_interleave(query.size(1) // x.size(1), dim=1) for x in (key, value))
    q, k, v = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))
    return kernel(q, k, v, ends, ends, longest, longest, **how).transpose(0, 1).unsqueeze(0)


def computes_varlen(query: Tensor) -> bool:
    """Whether the kernel is there for such tensors: in half precision, on GPUs from Ampere on."""
    return _half_on_gpu(query) and _varlen()[0] is not None and torch.cuda.get_device_capability(query.device) >= (8, 0)


def _half_on_gpu(query: Tensor) -> bool:
    return query.device.type == "cuda" and query.dtype in (torch.float16, torch.bfloat16)


@cache
def _varlen() -> tuple[Callable[..., Any] | None, frozenset[str]]:
    """PyTorch's function and the names of its parameters, which grew from release to release."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None, frozenset()
    kernel: Callable[..., Any] = varlen_attn
    return kernel, frozenset(inspect.signature(varlen_attn).parameters)


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU's on the device. The copy to a GPU waits for nothing that it still computes."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
