"""Attention of a training step on a CPU in float32, forward and backward in native code.

    P = softmax(scale Q K^T), O = P V;  dV = P^T dO, dS = P * (dO V^T - rowsum(dO * O)), dQ = scale dS K,
    dK = scale dS^T Q

in blocks that stay in a core's cache: scores are never whole in memory, and the backward makes them again from each
row's logarithm of its sum (Dao et al., arXiv 2205.14135; Dao, 2307.08691). So does PyTorch's kernel for CPUs, which at
the lengths of small models spends most of its time outside of products. This one works on the threads of PyTorch's own
OpenMP, for a second pool would wait on the same cores; results do not depend on how many there are. It knows no masks
but the causal one, no windows, caps, dropout or second derivatives: there, and where it does not pay, `attend` has
PyTorch's.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from bloomery.models import fused
from bloomery.models.native.library import library

_int32, _int64, _pointer = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p
_TENSORS = ("query", "key", "value", "out", "grad_out", "grad_query", "grad_key", "grad_value")


class _Heads(ctypes.Structure):
    """As in attention_training.cpp, and so is the other."""

    _fields_ = (("data", _pointer), *((name, _int64) for name in ("batch", "head", "row")))


class _Attention(ctypes.Structure):
    _fields_ = (
        *((name, _int64) for name in ("batch", "heads", "kv_heads", "queries", "keys", "dim")),
        ("scale", ctypes.c_float),
        ("causal", _int32),
        *((name, _Heads) for name in _TENSORS),
        ("logs", _pointer),
        ("room", _pointer),
    )


@cache
def _pool() -> int | None:
    """Address of GOMP_parallel in the OpenMP that PyTorch has loaded for everybody; None where that is another's."""
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, _pointer).value
    except (OSError, AttributeError, TypeError):
        return None


def _library() -> ctypes.CDLL | None:
    calls = library().calls
    return None if calls is None else _declared(calls)


@cache
def _declared(calls: ctypes.CDLL) -> ctypes.CDLL:
    calls.bloomery_attention.argtypes = (ctypes.POINTER(_Attention), _int32, _int32, _pointer)
    calls.bloomery_attention.restype = None
    calls.bloomery_attention_sizes.argtypes = (ctypes.POINTER(_int64),)
    calls.bloomery_attention_sizes.restype = None
    calls.bloomery_attention_room.argtypes = (_int64, _int64)
    calls.bloomery_attention_room.restype = _int64
    calls.bloomery_attention_is_fast.restype = _int32
    return calls


def _call(backward: bool, causal: bool, scale: float, logs: Tensor, **tensors: Tensor) -> None:
    calls = _library()
    assert calls is not None
    query, key = tensors["query"], tensors["key"]
    batch, heads, queries, dim = query.shape
    kv_heads, keys = key.size(1), key.size(2)
    threads = torch.get_num_threads() if _pool() else 1
    room = query.new_empty(threads * calls.bloomery_attention_room(keys, dim))
    given = {name: _Heads(x.data_ptr(), *x.stride()[:3]) for name, x in tensors.items()}
    sizes = {"batch": batch, "heads": heads, "kv_heads": kv_heads, "queries": queries, "keys": keys, "dim": dim}
    call = _Attention(**sizes, scale=scale, causal=causal, logs=logs.data_ptr(), room=room.data_ptr(), **given)
    calls.bloomery_attention(call, backward, threads, _pool())


def _rows(x: Tensor) -> Tensor:
    """x with the numbers of a row side by side."""
    return x if x.stride(-1) == 1 or x.size(-1) == 1 else x.contiguous()


def _like(x: Tensor) -> Tensor:
    """Room for (B, H, T, D) that lies as (B, T, H, D), as projections make it and read it."""
    batch, heads, length, dim = x.shape
    return x.new_empty(batch, length, heads, dim).transpose(1, 2)


class _NativeAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float) -> Tensor:
        query, key, value = _rows(query), _rows(key), _rows(value)
        out, logs = _like(query), query.new_empty(query.shape[:3])
        _call(False, causal, scale, logs, query=query, key=key, value=value, out=out)
        ctx.save_for_backward(query, key, value, out, logs)
        ctx.causal, ctx.scale = causal, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # as under create_graph: what is computed here leaves no graph behind
            raise RuntimeError("native attention has no second derivatives")
        query, key, value, out, logs = ctx.saved_tensors
        tensors = {"query": query, "key": key, "value": value, "out": out, "grad_out": _rows(grad_outputs[0])}
        grads = [_like(x) for x in (query, key, value)]
        tensors |= zip(_TENSORS[-3:], grads, strict=True)
        _call(True, ctx.causal, ctx.scale, logs, **tensors)
        return *(x if wanted else None for x, wanted in zip(grads, ctx.needs_input_grad[:3], strict=True)), None, None


def native_attention(query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float) -> Tensor:
    """(B, H, T, D), (B, H_kv, S, D) twice -> (B, H, T, D); causal only where T is S. There is to be a library."""
    found = _NativeAttention.apply(query, key, value, causal, scale)
    assert isinstance(found, Tensor)
    return found


def pays(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> bool:
    """Whether native attention is right here, and faster.

    Measured on two cores it takes 0.4 to 0.9 of the time of scaled_dot_product_attention at every length from 1 to
    2,048 and every size of heads from 8 to 256, but more where a core has nothing to do: with fewer key heads in a
    batch than threads, or without threads.
    """
    tensors = (query, key, value)
    if not any(fused.pays(x) for x in tensors):
        return False
    threads = torch.get_num_threads()
    return (
        all(type(x) is Tensor and x.device.type == "cpu" and x.dtype == torch.float32 for x in tensors)
        and (not causal or query.size(2) == key.size(2))
        and query.numel() > 0
        and key.numel() > 0
        and query.size(0) * key.size(1) >= threads
        and is_here()
    )


def is_here() -> bool:
    """Whether native attention is at all: compiled, fast on this processor, on PyTorch's threads."""
    return (
        (torch.get_num_threads() == 1 or _pool() is not None)
        and (calls := _library()) is not None
        and bool(calls.bloomery_attention_is_fast())
    )


def attention_in_training(query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float) -> Tensor | None:
    """`native_attention` where it pays, else None."""
    return native_attention(query, key, value, causal, scale) if pays(query, key, value, causal) else None
