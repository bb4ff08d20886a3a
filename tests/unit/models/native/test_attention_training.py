"""Native attention of training: PyTorch's own in float64 within float32's rounding, whatever the threads."""

from __future__ import annotations

import copy
import ctypes
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bloomery.models import attention as attention_module
from bloomery.models.attention import EVERYTHING, Attention, Mask, attend
from bloomery.models.native import attention_training as module
from bloomery.models.native.attention_training import _Attention, _Heads, attention_in_training, native_attention, pays

THREADS = Path("/proc/self/task")
SHAPES = [  # batch, heads, key heads, queries, keys, head size, causal
    (2, 6, 6, 64, 64, 48, True),
    (2, 6, 3, 37, 37, 20, True),
    (1, 4, 1, 300, 300, 48, True),
    (1, 2, 2, 600, 600, 16, True),
    (2, 2, 2, 70, 530, 33, False),
    (1, 3, 3, 1, 1, 5, True),
    (2, 2, 1, 5, 256, 64, False),
    (1, 1, 1, 257, 257, 1, True),
    (1, 2, 1, 65, 9, 130, False),
]


def inputs(batch: int, heads: int, kv_heads: int, queries: int, keys: int, dim: int) -> list[Tensor]:
    """As projections make them: (B, T, H, D) seen as (B, H, T, D); and a gradient of the result."""
    sizes = ((heads, queries), (kv_heads, keys), (kv_heads, keys), (heads, queries))
    return [torch.randn(batch, length, count, dim).transpose(1, 2).requires_grad_() for count, length in sizes]


def plain(query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float) -> Tensor:
    grouped = query.size(1) != key.size(1)
    return F.scaled_dot_product_attention(query, key, value, is_causal=causal, scale=scale, enable_gqa=grouped)


def results(function, query: Tensor, key: Tensor, value: Tensor, grad: Tensor, causal: bool, scale: float):
    """The output and three gradients."""
    out = function(query, key, value, causal, scale)
    return [out.detach(), *torch.autograd.grad(out, (query, key, value), grad.to(out.dtype))]


def assert_right(tensors: list[Tensor], causal: bool, scale: float) -> None:
    """As far from float64 as PyTorch's float32 is, times three: sums in another order round otherwise; and the one
    number that is farthest, which is a matter of luck, times six. The floor is a sum of some rounded products, for
    where PyTorch's is exact by chance."""
    exact = results(plain, *(x.detach().double().requires_grad_() for x in tensors), causal, scale)
    theirs, ours = results(plain, *tensors, causal, scale), results(native_attention, *tensors, causal, scale)
    for wanted, their, our in zip(exact, theirs, ours, strict=True):
        unit = 1e-6 * max(1.0, wanted.abs().max().item())
        assert our.shape == wanted.shape
        assert (our - wanted).norm() <= 3 * (their - wanted).norm() + unit
        assert (our - wanted).abs().max() <= 6 * (their - wanted).abs().max() + unit


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_pytorchs_attention(calls: ctypes.CDLL, shape: tuple[int, ...]):
    torch.manual_seed(0)
    *sizes, causal = shape
    assert_right(inputs(*sizes), bool(causal), sizes[-1] ** -0.5)


def test_random_shapes_and_strides(calls: ctypes.CDLL):
    torch.manual_seed(1)
    draw = random.Random(1)
    for _ in range(40):
        kv_heads, causal, length = draw.randint(1, 3), draw.random() < 0.5, draw.randint(1, 150)
        keys = length if causal else draw.randint(1, 150)
        tensors = inputs(draw.randint(1, 3), kv_heads * draw.randint(1, 3), kv_heads, length, keys, draw.randint(1, 70))
        for place, x in enumerate(tensors):
            how = draw.randint(0, 3)
            changed = x.detach()
            if how == 1:
                changed = changed.contiguous()
            elif how == 2:
                changed = changed.mT.contiguous().mT  # numbers of a row apart
            elif how == 3:
                changed = changed[:1].expand_as(x)
            tensors[place] = changed.requires_grad_()
        assert_right(tensors, causal, draw.choice([0.01, 0.2, 1.0]))


def test_large_scores_overflow_nothing(calls: ctypes.CDLL):
    torch.manual_seed(2)
    assert_right(inputs(1, 2, 2, 300, 300, 16), True, 30.0)


def test_what_is_no_number_comes_through(calls: ctypes.CDLL):
    query, key, value, grad = inputs(1, 1, 1, 40, 40, 16)
    with torch.no_grad():
        query[0, 0, 33, 3] = float("nan")
    out, of_query, of_key, _ = results(native_attention, query, key, value, grad, True, 0.25)
    assert out[0, 0, 33].isnan().all() and out[0, 0, :33].isfinite().all() and of_query[0, 0, 33].isnan().all()
    assert of_key.isnan().any()


@pytest.mark.parametrize("causal", [True, False])
def test_threads_and_repeats_change_no_bit(calls: ctypes.CDLL, causal: bool):
    torch.manual_seed(3)
    tensors, found, before = inputs(3, 6, 3, 150, 150, 24), [], torch.get_num_threads()
    try:
        for threads in (1, 2, 2, 5):
            torch.set_num_threads(threads)
            found.append(results(native_attention, *tensors, causal, 0.2))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


def test_no_threads_of_its_own(calls: ctypes.CDLL):
    """It works on those that PyTorch has: none is new (an earlier test's may end meanwhile)."""
    if module._pool() is None or not THREADS.is_dir():
        pytest.skip("threads cannot be shared or counted here")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        torch.ones(1 << 20).exp_()  # begins PyTorch's
        there = {thread.name for thread in THREADS.iterdir()}
        results(native_attention, *inputs(4, 4, 4, 64, 64, 16), True, 0.25)
        assert {thread.name for thread in THREADS.iterdir()} <= there
    finally:
        torch.set_num_threads(before)


def test_gradients_lie_as_projections_read_them(calls: ctypes.CDLL):
    found = results(native_attention, *inputs(2, 4, 2, 10, 10, 8), True, 0.3)
    assert all(x.transpose(1, 2).is_contiguous() for x in found)


def test_gradients_of_some_inputs(calls: ctypes.CDLL):
    query, key, value, grad = (x.detach() for x in inputs(2, 2, 2, 20, 20, 8))
    value.requires_grad_()
    assert pays(query, key, value, True) == pays(*(x.clone().requires_grad_() for x in (query, key, value)), True)
    native_attention(query, key, value, True, 0.3).backward(grad)
    ours, value.grad = value.grad, None
    plain(query, key, value, True, 0.3).backward(grad)
    assert ours is not None and value.grad is not None and query.grad is None
    torch.testing.assert_close(ours, value.grad)


def test_second_derivatives_are_refused(calls: ctypes.CDLL):
    query, key, value, _ = inputs(1, 1, 1, 8, 8, 8)
    out = native_attention(query, key, value, True, 1.0)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(out.sum(), query, create_graph=True)


def test_inside_a_checkpoint(calls: ctypes.CDLL):
    query, key, value, grad = inputs(1, 2, 2, 30, 30, 8)
    out = checkpoint(native_attention, query, key, value, True, 0.3, use_reentrant=False)
    again = torch.autograd.grad(out, (query, key, value), grad)
    once = results(native_attention, query, key, value, grad, True, 0.3)[1:]
    assert all(torch.equal(one, two) for one, two in zip(again, once, strict=True))


def test_where_it_does_not_pay_pytorch_computes(calls: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_pool", lambda: 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    query, key, value, _ = inputs(2, 4, 2, 8, 8, 8)
    longer = inputs(2, 4, 2, 8, 9, 8)
    if not calls.bloomery_attention_is_fast():
        pytest.skip("this processor has plain instructions only")
    assert pays(query, key, value, True) and pays(*longer[:3], False)
    assert not pays(*longer[:3], True)
    assert not pays(*(x[:1, :1] for x in (query, key, value)), True)  # one task, two threads
    assert not pays(*(x[:0] for x in (query, key, value)), True)
    assert not pays(*(x.detach() for x in (query, key, value)), True)
    assert not pays(*(x.double() for x in (query, key, value)), True)
    assert not pays(query, key, value.bfloat16(), True)
    assert not pays(*(x.to("meta") for x in (query, key, value)), True)
    with torch.no_grad():
        assert attention_in_training(query, key, value, True, 1.0) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert not pays(query, key, value, True)
    monkeypatch.setattr(module, "_pool", lambda: None)
    assert not pays(query, key, value, True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert pays(query, key, value, True)
    monkeypatch.setenv("BLOOMERY_NATIVE", "off")
    assert not pays(query, key, value, True)


def test_a_module_in_training_uses_it(calls: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(4)
    layer = Attention(hidden_size=32, num_heads=4, head_dim=8, num_kv_heads=2).train()
    used: list[bool] = []

    def counted(query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float) -> Tensor:
        used.append(causal)
        return native_attention(query, key, value, causal, scale)

    x, grads = torch.randn(2, 21, 32), []
    for kernel in (None, counted):
        monkeypatch.setattr(attention_module, "in_training", kernel)
        own = copy.deepcopy(layer)
        (own(x, mask=Mask(causal=True)) + own(x)).square().sum().backward()
        grads.append([one.grad for one in own.parameters()])
    assert used == [True, False]
    for one, two in zip(*grads, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
    query, key, value, _ = inputs(1, 4, 2, 6, 6, 8)
    attend(query, key, value, Mask(torch.ones(6, 6, dtype=torch.bool)), scale=1.0, softcap=None, training=True)
    attend(query, key, value, EVERYTHING, scale=1.0, softcap=5.0, training=True)
    attend(query, key, value, EVERYTHING, scale=1.0, softcap=None)
    layer.eval()(x)  # a result that is compared with somebody's does not depend on whether a gradient is wanted
    assert len(used) == 2
    attend(query, key, value, EVERYTHING, scale=1.0, softcap=None, training=True)
    assert len(used) == 3


def test_training_puts_it_in_place(calls: ctypes.CDLL):
    code = "import bloomery.training, bloomery.models.attention as a; print(a.in_training.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "attention_in_training"


PORTABLE = """
import torch
from tests.unit.models.native.test_attention_training import SHAPES, assert_right, inputs
from bloomery.models.native.attention_training import _library
assert not _library().bloomery_attention_is_fast()
torch.manual_seed(0)
for *sizes, causal in SHAPES:
    assert_right(inputs(*sizes), causal, sizes[-1] ** -0.5)
"""


def test_portable_kernels_do_the_same(calls: ctypes.CDLL, request: pytest.FixtureRequest):
    environment = {**os.environ, "BLOOMERY_NATIVE_KERNELS": "portable"}
    command = [sys.executable, "-c", PORTABLE]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=request.config.rootpath)
    assert done.returncode == 0, done.stderr[-2000:]


def test_structures_are_as_large_as_in_the_source(calls: ctypes.CDLL):
    sizes = (ctypes.c_int64 * 2)()
    declared = module._library()
    assert declared is not None
    declared.bloomery_attention_sizes(sizes)
    assert list(sizes) == [ctypes.sizeof(_Heads), ctypes.sizeof(_Attention)]
