"""Texts of one row in few calls: side by side they are what they are apart, and varlen is called as PyTorch says."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bloomery.core.errors import DeviceError
from bloomery.models import packed_texts
from bloomery.models.attention import Mask, attend, window_mask
from bloomery.models.packed_texts import SideBySide, attend_varlen, on_device

CPU = torch.device("cpu")
LENGTHS = (7, 3, 11, 11, 1, 5)


def _qkv(heads: int = 4, groups: int = 2, **how: Any) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(1, n, sum(LENGTHS), 8, generator=generator).to(**how) for n in (heads, groups, groups)]
    return made[0].requires_grad_(), made[1].requires_grad_(), made[2].requires_grad_()


@pytest.mark.parametrize("worth", [1, 4096])
def test_there_and_back(monkeypatch: pytest.MonkeyPatch, worth: int):
    monkeypatch.setattr(packed_texts, "_WORTH_A_CALL", worth)
    rows = SideBySide(LENGTHS, CPU)
    assert sum(count for count, _ in rows.groups) == len(LENGTHS) and len(rows.groups) == (5 if worth == 1 else 1)
    x = torch.randn(1, 2, sum(LENGTHS), 3, requires_grad=True)
    parts = rows.parts(x)
    assert [part.shape for part in parts] == [(count, 2, longest, 3) for count, longest in rows.groups]
    assert sum(int((part != 0).any(-1).any(1).sum()) for part in parts) == sum(LENGTHS)  # the rest is zeros
    back = rows.joined(parts)
    assert torch.equal(back, x)
    weights = torch.randn_like(x)
    (back * weights).sum().backward()
    assert x.grad is not None and torch.equal(x.grad, weights)


def test_groups_are_made_where_they_spare_much():
    assert SideBySide((64,) * 30 + (60,) * 30, CPU).groups == [(60, 64)]
    assert SideBySide((5, 6, 7, 300), CPU).groups == [(4, 300)]
    groups = SideBySide((2000, 40, 1900, *((50,) * 200), 30), CPU).groups
    assert groups == [(2, 2000), (202, 50)]
    assert SideBySide((1, 1), CPU).groups == [(2, 1)]


def _window(causal: bool, kind: str) -> Tensor | None:
    if kind == "none":
        return None
    near = window_mask(max(LENGTHS), 2, CPU)
    near = near & torch.ones_like(near).tril() if causal else near
    slopes = torch.arange(max(LENGTHS)).float()
    falling = -(slopes[:, None] - slopes[None, :]).abs() * torch.tensor([0.1, 0.2, 0.3, 0.4])[:, None, None]
    return near if kind == "window" else falling.masked_fill(~near, -torch.inf)


@pytest.mark.parametrize("worth", [1, 4096])
@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("kind", ["none", "window", "bias"])
@pytest.mark.parametrize("causal", [False, True])
def test_side_by_side_is_apart(
    monkeypatch: pytest.MonkeyPatch, worth: int, softcap: float | None, kind: str, causal: bool
):
    """Values and gradients, of every kind of mask: padding is seen by nobody."""
    monkeypatch.setattr(packed_texts, "_WORTH_A_CALL", worth)
    found = []
    for backend in ("sdpa_apart", "sdpa_together"):
        query, key, value = _qkv()
        mask = Mask(_window(causal, kind), causal=causal and kind == "none", lengths=LENGTHS)
        out = attend(query, key, value, mask, scale=0.3, softcap=softcap, backend=backend)
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        found.append([out.detach(), query.grad, key.grad, value.grad])
        assert ("side_by_side" in mask.memo) == (backend == "sdpa_together")
    for one, two in zip(*found, strict=True):
        assert one is not None and bool(one.isfinite().all())
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


def _documented(
    query: Tensor, key: Tensor, value: Tensor, cu_seq_q: Tensor, cu_seq_k: Tensor, max_q: int, max_k: int, **how: Any
) -> Tensor:
    """What the documentation of varlen_attn says, (N, H, D), text by text."""
    assert cu_seq_q.dtype == torch.int32 and torch.equal(cu_seq_q, cu_seq_k) and max_q == max_k == max(LENGTHS)
    causal = how["is_causal"] if "is_causal" in how else {(-1, 0): True, (-1, -1): False}[how["window_size"]]
    grouped = how.get("enable_gqa", False)
    assert grouped or query.size(1) == key.size(1)
    parts = []
    for first, last in zip(cu_seq_q.tolist(), cu_seq_q.tolist()[1:], strict=False):
        q, k, v = (x[first:last].transpose(0, 1) for x in (query, key, value))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=how["scale"], enable_gqa=grouped)
        parts.append(out.transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize("options", [frozenset({"window_size", "enable_gqa"}), frozenset({"is_causal"})])
@pytest.mark.parametrize("causal", [False, True])
def test_varlen_is_called_as_it_is_documented(monkeypatch: pytest.MonkeyPatch, causal: bool, options: frozenset[str]):
    """Of PyTorch 2.13 and of the first that had it, whose parameters were fewer; the kernel itself needs a GPU."""
    monkeypatch.setattr(packed_texts, "_varlen", lambda: (_documented, options))
    monkeypatch.setattr(packed_texts, "_half_on_gpu", lambda query: True)
    query, key, value = _qkv()
    mask = Mask(causal=causal, lengths=LENGTHS)
    found = [
        attend(query, key, value, mask, scale=0.3, softcap=None, backend=backend)
        for backend in ("varlen", "varlen", "sdpa_apart")
    ]
    torch.testing.assert_close(found[0], found[2], atol=1e-5, rtol=1e-5)
    assert torch.equal(found[0], found[1]) and "varlen" in mask.memo
    capped = attend(query, key, value, mask, scale=0.3, softcap=1.0, backend="varlen")  # which it cannot
    torch.testing.assert_close(capped, attend(query, key, value, mask, scale=0.3, softcap=1.0), atol=1e-5, rtol=1e-5)


def test_where_there_is_no_varlen(monkeypatch: pytest.MonkeyPatch):
    query, key, value = _qkv()
    with pytest.raises(DeviceError, match="needs a GPU"):
        attend_varlen(query, key, value, LENGTHS, causal=True, scale=0.3, memo={})
    packed_texts._varlen.cache_clear()
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", ModuleType("varlen"))
    assert packed_texts._varlen() == (None, frozenset())
    packed_texts._varlen.cache_clear()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("backend", ["sdpa", "sdpa_together", "varlen"])
def test_on_a_gpu(backend: str):
    """In bfloat16 to its rounding, about 2^-8 of values that are below 4."""
    query, key, value = (x.detach().requires_grad_() for x in _qkv(device="cuda", dtype=torch.bfloat16))
    mask = Mask(causal=True, lengths=LENGTHS)
    out = attend(query, key, value, mask, scale=0.3, softcap=None, backend=backend)
    apart = attend(query, key, value, mask, scale=0.3, softcap=None, backend="sdpa_apart")
    torch.testing.assert_close(out, apart, atol=2e-2, rtol=2e-2)
    gradients = [torch.autograd.grad(one.float().square().sum(), (query, key, value)) for one in (out, apart)]
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, atol=1e-1, rtol=5e-2)


def test_on_a_cpu_a_tensor_stays():
    one = torch.arange(3)
    assert on_device(one, CPU) is one
