"""Matrices in native memory: read back as they were given, multiplied alike by however many threads."""

from __future__ import annotations

import copy
import ctypes

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bloomery.models.native.matrix import Matrix
from bloomery.models.quantize import quantize

fuzzed = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@fuzzed
@given(
    kind=st.sampled_from(["float32", "float16", "bfloat16", "int8", "int8 in groups", "int4"]),
    outputs=st.integers(1, 70),
    inputs=st.integers(1, 130),
    scale_dtype=st.sampled_from([torch.bfloat16, torch.float32]),
    rows=st.sampled_from([1, 2, 5, 17, 127, 260]),
    threads=st.integers(2, 3),
)
def test_what_was_given_is_read_back_and_threads_change_nothing(
    calls: ctypes.CDLL, kind: str, outputs: int, inputs: int, scale_dtype: torch.dtype, rows: int, threads: int
):
    size = {"int8 in groups": 6, "int4": 32}.get(kind)
    inputs = inputs if size is None else max(1, inputs // size) * size
    weight, scale = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(outputs)), None
    half = torch.bfloat16 if kind == "bfloat16" else torch.float16
    codes, bits = (weight, 32) if kind == "float32" else (weight.to(half), 16)
    if kind.startswith("int"):
        bits = int(kind[3])
        rounded = quantize(weight, bits, size, scale_dtype=torch.bfloat16 if bits == 4 else scale_dtype)
        codes, scale = rounded.codes, rounded.scale
    matrix = Matrix(calls, codes, scale, None, bits, half)
    assert torch.equal(matrix.codes(), codes)
    kept = matrix.scale()
    assert kept is None if scale is None else kept is not None and torch.equal(kept, scale)
    x = torch.randn(rows, inputs)
    assert torch.equal(matrix.multiply(x), matrix.multiply(x, threads))
    assert copy.deepcopy(matrix) is matrix


@pytest.mark.parametrize("kind", ["float32", "float16", "int8", "int4"])
@pytest.mark.parametrize("sizes", [(32, 64, 7), (5, 30, 1), (96,)])
def test_parts_are_one_matrix(calls: ctypes.CDLL, kind: str, sizes: tuple[int, ...]):
    bits = {"float32": 32, "float16": 16, "int8": 8, "int4": 4}[kind]
    weight, bias, scale = torch.randn(sum(sizes), 64), torch.randn(sum(sizes)), None
    codes = weight.half() if kind == "float16" else weight
    if bits < 16:
        rounded = quantize(weight, bits, None if bits == 8 else 32)
        codes, scale = rounded.codes, rounded.scale.bfloat16().float() if bits == 4 else rounded.scale
    parts, whole = Matrix(calls, codes.split(sizes), scale, bias, bits), Matrix(calls, codes, scale, bias, bits)
    assert torch.equal(parts.codes(), codes) and (parts.outputs, parts.nbytes) == (whole.outputs, whole.nbytes)
    x = torch.randn(3, 64)
    assert torch.equal(parts.multiply(x), whole.multiply(x))


@pytest.mark.parametrize(
    ("kind", "inputs", "size"),
    [(32, 90, None), (16, 90, None), (8, 231, None), (8, 256, 64), (8, 210, 30), (4, 256, 32)],
)
@pytest.mark.parametrize("rows", [2, 3, 4, 5, 6, 7, 8, 12, 13, 17, 40])
def test_a_row_is_the_same_alone_and_in_any_company(
    calls: ctypes.CDLL, kind: int, inputs: int, size: int | None, rows: int
):
    """However high the tiles are, and whether what comes next is fetched meanwhile."""
    weight, scale = torch.randn(100, inputs), None
    if kind < 16:
        rounded = quantize(weight, kind, size)
        weight, scale = rounded.codes, rounded.scale
    matrix = Matrix(calls, weight.half() if kind == 16 else weight, scale, torch.randn(100), kind)
    x = torch.randn(rows, inputs)
    assert torch.equal(matrix.multiply(x, 2), torch.cat([matrix.multiply(row[None]) for row in x]))


def test_no_rows_give_none(calls: ctypes.CDLL):
    assert Matrix(calls, torch.ones(3, 4), None, None, 32).multiply(torch.empty(0, 4), 2).shape == (0, 3)


def test_groups_that_are_wider_are_repeated(calls: ctypes.CDLL):
    rounded = quantize(torch.randn(16, 128), 4, 64)
    matrix = Matrix(calls, rounded.codes, rounded.scale.bfloat16().float(), None, 4)
    scale = matrix.scale()
    assert scale is not None and torch.equal(scale, rounded.scale.bfloat16().float().repeat_interleave(2, 1))


@pytest.mark.parametrize("inputs", [32, 64])
def test_nan_stays_none_in_every_row_that_has_it(calls: ctypes.CDLL, inputs: int):
    x = torch.ones(12, inputs)
    x[7, 3] = float("nan")
    got = Matrix(calls, torch.ones(20, inputs), None, None, 32).multiply(x, 2)
    assert got[7].isnan().all() and torch.equal(got[[*range(7), *range(8, 12)]], torch.full((11, 20), float(inputs)))
