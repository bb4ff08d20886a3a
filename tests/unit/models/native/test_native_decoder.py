"""Native steps beside PyTorch's, at odd shapes: heads, groups, windows, blocks, guesses, narrow keys and values."""

from __future__ import annotations

import ctypes
import math
import os
import random
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bloomery.core.errors import DeviceError, RequestError
from bloomery.models import Decoder, ModelConfig
from bloomery.models.native import native_decoder as module
from bloomery.models.native.library import Found
from bloomery.models.native.native_decoder import NativeDecoder, Sums
from bloomery.models.native.trial import check
from bloomery.models.packing import pack
from bloomery.models.paged import PagedMemory, PagedStep, Rows
from bloomery.models.rope import RopeScaling

fuzzed = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
BLOCK, BLOCKS = 4, 60


def decoder(**changes: Any) -> Decoder:
    sizes: dict[str, Any] = {
        "vocab_size": 50,
        "hidden_size": 40,
        "intermediate_size": 56,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 64,
    }
    torch.manual_seed(0)
    model = Decoder(ModelConfig(**{**sizes, **changes})).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter += torch.randn_like(parameter) * 0.15
    return model


CACHE_BOUNDS: dict[torch.dtype, dict[str, float]] = {
    torch.float32: {"rtol": 1e-4, "atol": 2e-4},
    torch.float16: {"rtol": 2e-3, "atol": 4e-3},
    torch.int8: {"rtol": 2e-2, "atol": 2e-2},
}
"""By how keys and values are kept: two layers of numbers of size one, sums in another order; what is kept in fewer bits
may round the other way, by 2^-10 of it or by one code."""


class Texts:
    """Sequences whose blocks lie mixed in one memory, read alike by PyTorch and by native code."""

    def __init__(self, model: Decoder, count: int, seed: int, dtype: torch.dtype = torch.float32) -> None:
        self.model, self.random = model, random.Random(seed)
        self.memories = [PagedMemory(model.config, BLOCK * BLOCKS, dtype) for _ in range(2)]
        blocks = list(range(BLOCKS))
        self.random.shuffle(blocks)
        self.blocks = [blocks[i::count] for i in range(count)]
        self.read = [0] * count

    def rows(self, number: int, count: int) -> Rows:
        end, runs = self.read[number] + count, []
        for block in self.blocks[number]:
            length = min(BLOCK, end - BLOCK * len(runs))
            if length <= 0:
                break
            runs.append((block * BLOCK, length))
        reach = self.model.config.reach(BLOCK * len(self.blocks[number]))
        return Rows(self.read[number], count, runs, reach)

    def ids(self, count: int) -> list[int]:
        return [self.random.randrange(self.model.config.vocab_size) for _ in range(count)]

    @torch.inference_mode()
    def by_torch(self, rows: list[Rows], ids: list[list[int]]) -> torch.Tensor:
        flat = torch.tensor([[i for part in ids for i in part]])
        return self.model.logits(self.model.hidden_states(flat, cache=PagedStep(self.memories[0], rows))[0])

    def prefill(self, lengths: list[int]) -> None:
        """Prompts, read by PyTorch into both memories."""
        for number, length in enumerate(lengths):
            rows, ids = [self.rows(number, length)], [self.ids(length)]
            self.by_torch(rows, ids)
            self.memories.reverse()
            self.by_torch(rows, ids)
            self.memories.reverse()
            self.read[number] += length


@fuzzed
@given(
    heads=st.sampled_from([(1, 1), (2, 1), (3, 3), (6, 2), (4, 4), (5, 1)]),
    head_dim=st.sampled_from([2, 6, 8, 10, 16, 20, 24, 40, 64, 72]),
    window=st.sampled_from([None, 1, 3, 9]),
    lengths=st.lists(st.integers(1, 18), min_size=1, max_size=8),  # eight and three steps have room
    counts=st.lists(st.integers(1, 3), min_size=8, max_size=8),
    threads=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_steps_are_pytorchs(
    calls: ctypes.CDLL,
    heads: tuple[int, int],
    head_dim: int,
    window: int | None,
    lengths: list[int],
    counts: list[int],
    threads: int,
    seed: int,
):
    kinds = ("sliding_attention", "full_attention") if window else ()
    model = decoder(
        model_type="qwen3",
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        head_dim=head_dim,
        sliding_window=window,
        layer_types=kinds,
    )
    native, texts = NativeDecoder(model, threads=threads), Texts(model, len(lengths), seed)
    texts.prefill(lengths)
    for _ in range(3):
        rows = [texts.rows(number, counts[number]) for number in range(len(lengths))]
        ids = [texts.ids(counts[number]) for number in range(len(lengths))]
        expected = texts.by_torch(rows, ids)
        got = native.step(texts.memories[1], rows, ids)
        # Two layers of numbers of size one: sums of some hundred terms in another order.
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-4)
        alone = torch.cat([native.step(texts.memories[1], [r], [i]) for r, i in zip(rows, ids, strict=True)])
        assert torch.equal(alone, got)  # whoever else is there
        texts.read = [start + counts[number] for number, start in enumerate(texts.read)]
    for ours, theirs in zip(*([*m.keys, *m.values] for m in texts.memories), strict=True):
        used = torch.tensor(
            [slot for n in range(len(lengths)) for f, size in texts.rows(n, 0).runs for slot in range(f, f + size)]
        )
        torch.testing.assert_close(ours[used], theirs[used], rtol=1e-4, atol=1e-4)


@fuzzed
@given(
    heads=st.sampled_from([(1, 1), (2, 1), (3, 3), (6, 2), (5, 1)]),
    head_dim=st.sampled_from([2, 6, 8, 10, 16, 20, 64, 72]),
    window=st.sampled_from([None, 1, 3, 9, 40]),
    cache=st.sampled_from(list(CACHE_BOUNDS)),
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    wanted=st.integers(0, 40),
    threads=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_prompts_are_pytorchs(
    calls: ctypes.CDLL,
    heads: tuple[int, int],
    head_dim: int,
    window: int | None,
    cache: torch.dtype,
    counts: list[int],
    wanted: int,
    threads: int,
    seed: int,
):
    """In whatever parts, which give the same to the last bit, and only for the rows that are wanted."""
    model = decoder(
        model_type="qwen3",
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        head_dim=head_dim,
        sliding_window=window,
        layer_types=("sliding_attention", "full_attention") if window else (),
        max_position_embeddings=200,
    )
    native, texts = NativeDecoder(model, threads=threads), Texts(model, 1, seed, cache)
    texts.memories.append(PagedMemory(model.config, BLOCK * BLOCKS, cache))
    length = sum(counts)
    whole, ids = texts.rows(0, length), texts.ids(length)
    expected = texts.by_torch([whole], [ids])
    got = native.prefill(texts.memories[1], whole, ids, length)
    torch.testing.assert_close(got, expected, **CACHE_BOUNDS[cache])
    for count in counts:
        rows, part = texts.rows(0, count), ids[texts.read[0] : texts.read[0] + count]
        texts.read[0] += count
        few = min(wanted, count)
        made = native.prefill(texts.memories[2], rows, part, few)
        assert made.shape == (few, 50) and torch.equal(made, got[texts.read[0] - few : texts.read[0]])
    used = torch.tensor([slot for first, size in whole.runs for slot in range(first, first + size)])
    for ours, theirs in zip(*([*m.keys, *m.values] for m in texts.memories[1:]), strict=True):
        assert torch.equal(ours[used], theirs[used])


@pytest.mark.parametrize("kind", ["float32", "float16", "int8", "int4"])
def test_prompts_by_packed_weights_in_any_parts(calls: ctypes.CDLL, kind: str):
    """Of more rows than a task of a product has, too."""
    model = decoder(hidden_size=64, intermediate_size=96, max_position_embeddings=200)
    pack(model, kind)
    native, texts = NativeDecoder(model, threads=2), Texts(model, 1, 0)
    rows, ids = texts.rows(0, 190), texts.ids(190)
    expected, got = texts.by_torch([rows], [ids]), native.prefill(texts.memories[1], rows, ids, 190)
    bound = {"int8": 0.08, "int4": 0.05}.get(kind, 1e-5)  # as of steps
    assert (got - expected).norm() / expected.norm() < bound
    for start, end in ((0, 7), (7, 16), (16, 17), (17, 100), (100, 190)):
        texts.read[0] = start
        made = native.prefill(texts.memories[1], texts.rows(0, end - start), ids[start:end], end - start)
        assert torch.equal(made, got[start:end])


@pytest.mark.parametrize("kind", ["plain", "float32", "float16", "int8", "int4"])
def test_packed_weights_step_as_pytorchs(calls: ctypes.CDLL, kind: str):
    model = decoder(hidden_size=64, intermediate_size=96)
    if kind != "plain":
        pack(model, kind)
    native, texts = NativeDecoder(model), Texts(model, 3, 0)
    texts.prefill([1, 7, 12])
    rows, ids = [texts.rows(n, 1) for n in range(3)], [texts.ids(1) for _ in range(3)]
    expected, got = texts.by_torch(rows, ids), native.step(texts.memories[1], rows, ids)
    # PyTorch rounds activations to 7 bits for int8, to bfloat16 for int4; native code rounds finer.
    bound = {"int8": 0.08, "int4": 0.05}.get(kind, 1e-5)
    assert (got - expected).norm() / expected.norm() < bound


OWN: dict[str, dict[str, Any]] = {
    "fast": {"value_embedding_layers": (0, 1), "bigram_vocab_size": 37, "smear": True},
    "values": {"value_embedding_layers": (1,)},
    "bigrams": {"bigram_vocab_size": 1000},
    "smear": {"smear": True, "embed_norm": True},
    "resid": {"resid_lambdas": True, "gated_mlp": False, "hidden_act": "relu2"},
    "x0": {"x0_lambdas": True, "final_logit_softcapping": 3.0},
}
OWN["all"] = {name: value for parts in reversed(OWN.values()) for name, value in parts.items()}


def own_decoder(name: str, **changes: Any) -> Decoder:
    model = decoder(model_type="bloomery", **OWN[name], **changes)
    for key, parameter in model.named_parameters():
        if any(part in key for part in ("smear", "v_gate", "embed_values", "embed_bigrams")):
            parameter.copy_(torch.randn(parameter.shape))
    return model


@settings(fuzzed, max_examples=30)
@given(
    name=st.sampled_from(list(OWN)),
    hidden=st.sampled_from([16, 26, 40]),
    heads=st.sampled_from([(1, 1), (6, 2), (3, 3)]),
    cache=st.sampled_from(list(CACHE_BOUNDS)),
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=6),
    counts=st.lists(st.integers(1, 3), min_size=6, max_size=6),
    threads=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_parts_of_our_own_are_pytorchs(
    calls: ctypes.CDLL,
    name: str,
    hidden: int,
    heads: tuple[int, int],
    cache: torch.dtype,
    lengths: list[int],
    counts: list[int],
    threads: int,
    seed: int,
):
    """Prompts read natively, then steps of several texts, new ones among them."""
    model = own_decoder(name, hidden_size=hidden, num_attention_heads=heads[0], num_key_value_heads=heads[1])
    native, texts = NativeDecoder(model, threads=threads), Texts(model, len(lengths) + 1, seed, cache)
    bound = CACHE_BOUNDS[cache]
    for number, length in enumerate(lengths):
        rows, ids = texts.rows(number, length), texts.ids(length)
        got = native.prefill(texts.memories[1], rows, ids, length)
        torch.testing.assert_close(got, texts.by_torch([rows], [ids]), **bound)
        texts.read[number] = length
    counts = [*counts[: len(lengths)], 2]
    for _ in range(3):
        rows = [texts.rows(number, count) for number, count in enumerate(counts)]
        ids = [texts.ids(count) for count in counts]
        got = native.step(texts.memories[1], rows, ids)
        torch.testing.assert_close(got, texts.by_torch(rows, ids), **bound)
        alone = torch.cat([native.step(texts.memories[1], [r], [i]) for r, i in zip(rows, ids, strict=True)])
        assert torch.equal(alone, got)
        texts.read = [start + count for start, count in zip(texts.read, counts, strict=True)]
    ours, theirs = (memory.ids for memory in texts.memories)
    assert (ours is None and theirs is None) or torch.equal(ours, theirs)  # so that either may go on


@pytest.mark.parametrize("name", OWN)
def test_prompts_with_parts_of_our_own_in_any_parts(calls: ctypes.CDLL, name: str):
    """Layer by layer too, while others are read between."""
    model = own_decoder(name, max_position_embeddings=100)
    native, texts = NativeDecoder(model, threads=2), Texts(model, 2, 4)
    first, second, ids, others = texts.rows(0, 80), texts.rows(1, 16), texts.ids(80), texts.ids(16)
    expected = native.prefill(texts.memories[0], first, ids, 80)
    torch.testing.assert_close(expected, texts.by_torch([first], [ids]), rtol=1e-4, atol=2e-4)
    between = lambda: native.prefill(texts.memories[1], second, others, 16)  # noqa: E731
    assert torch.equal(native.prefill(texts.memories[1], first, ids, 80, between), expected)
    for start, end in ((0, 1), (1, 18), (18, 80)):
        texts.read[0] = start
        made = native.prefill(texts.memories[1], texts.rows(0, end - start), ids[start:end], end - start)
        assert torch.equal(made, expected[start:end])


@pytest.mark.parametrize("kind", ["float16", "int8", "int4"])
def test_packed_weights_with_parts_of_our_own(calls: ctypes.CDLL, kind: str):
    model = own_decoder("all", hidden_size=64, intermediate_size=96)
    pack(model, kind)
    native, texts = NativeDecoder(model), Texts(model, 3, 0)
    texts.prefill([1, 7, 12])
    rows, ids = [texts.rows(n, 2) for n in range(3)], [texts.ids(2) for _ in range(3)]
    expected, got = texts.by_torch(rows, ids), native.step(texts.memories[1], rows, ids)
    bound = {"int8": 0.08, "int4": 0.05}.get(kind, 1e-5)  # as of published families
    assert (got - expected).norm() / expected.norm() < bound


@pytest.mark.parametrize("part", ["mixes", "smear", "bigrams", "token_values"])
def test_without_one_of_our_parts_it_is_not_the_same(calls: ctypes.CDLL, part: str):
    model = own_decoder("all")
    native = NativeDecoder(model)
    assert check(native) < 1e-5
    setattr(native.description.layers[1] if part == "token_values" else native.description.model, part, 0)
    with pytest.raises(DeviceError, match="is off by"):
        check(native)


def test_gates_and_shares_that_are_trained_on_are_read_again(calls: ctypes.CDLL):
    model = own_decoder("all")
    native, texts = NativeDecoder(model), Texts(model, 1, 3)
    rows, ids = [texts.rows(0, 5)], [texts.ids(5)]
    before = native.step(texts.memories[1], rows, ids)
    mix, smear = model.model.mix, model.model.smear
    assert mix is not None and mix.x0 is not None and smear is not None
    for parameter in (mix.x0, smear.scale, model.model.layers[1].self_attn.v_gate.weight):
        parameter.mul_(3.0)
        after = native.step(texts.memories[1], rows, ids)
        assert not torch.equal(before, after)
        torch.testing.assert_close(after, texts.by_torch(rows, ids), rtol=1e-4, atol=2e-4)
        before = after


@pytest.mark.parametrize("head_dim", [4, 12, 32])
@pytest.mark.parametrize(("cache", "bound"), [(torch.float16, 2e-3), (torch.int8, 1e-2)])
def test_keys_and_values_of_fewer_bits(calls: ctypes.CDLL, cache: torch.dtype, bound: float, head_dim: int):
    model = decoder(head_dim=head_dim)
    native, texts = NativeDecoder(model), Texts(model, 3, 1, cache)
    texts.prefill([5, 1, 17])
    for _ in range(4):
        rows, ids = [texts.rows(n, 1) for n in range(3)], [texts.ids(1) for _ in range(3)]
        expected, got = texts.by_torch(rows, ids), native.step(texts.memories[1], rows, ids)
        torch.testing.assert_close(got, expected, rtol=bound, atol=bound)  # what is kept may round the other way
        texts.read = [one + 1 for one in texts.read]


def assert_halves_are_pytorchs(dim: int) -> None:
    """What float16 keeps of values is what PyTorch's does, to the bit: subnormal, between two, too large, no number."""
    halves = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.float16).float()
    finite = halves[halves.isfinite()]
    exact = finite[: len(finite) // dim * dim].reshape(-1, dim)
    between = [exact * factor for factor in (1 + 2**-11, 1 + 2**-11 + 2**-20, 1.7, 3e38, 1e-7)] + [exact + 2**-25]
    chosen = torch.cat([exact, *between, torch.full((1, dim), torch.nan)])
    model = decoder(model_type="qwen2", num_attention_heads=1, num_key_value_heads=1, head_dim=dim)
    values = model.model.layers[0].self_attn.v_proj
    assert isinstance(values, torch.nn.Linear) and values.bias is not None
    values.weight.zero_()
    memories = [PagedMemory(model.config, 1, torch.float16) for _ in range(2)]
    rows = Rows(0, 1, [(0, 1)])
    for bias in torch.cat([chosen[: -1 : len(chosen) // 400], chosen[-1:]]):
        values.bias.copy_(bias)
        model.hidden_states(torch.tensor([[1]]), cache=PagedStep(memories[0], [rows]))
        NativeDecoder(model).step(memories[1], [rows], [[1]])
        theirs, ours = (one.values[0] for one in memories)
        same = ours.view(torch.int16) == theirs.view(torch.int16)
        assert bool((same | (ours.isnan() & theirs.isnan())).all())


def test_what_float16_keeps(calls: ctypes.CDLL):
    assert_halves_are_pytorchs(20)


@pytest.mark.parametrize("kernels", ["AVX2", "portable"])
def test_other_kernels_keep_and_sum_alike(calls: ctypes.CDLL, request: pytest.FixtureRequest, kernels: str):
    code = "from tests.unit.models.native import test_native_decoder as t; t.assert_halves_are_pytorchs(20)"
    code += "; t.assert_sums_are_of_rows(50); t.assert_sums_are_of_rows(7)"
    environment = {**os.environ, "BLOOMERY_NATIVE_KERNELS": kernels}
    command, root = [sys.executable, "-c", code], request.config.rootpath
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root)
    assert done.returncode == 0, done.stderr[-2000:]


def assert_sums_are_of_rows(vocabulary: int) -> None:
    texts, sums = Texts(decoder(vocab_size=vocabulary), 2, 0), Sums(3)
    rows, ids = [texts.rows(0, 1), texts.rows(1, 2)], [texts.ids(1), texts.ids(2)]
    for number, size in ((None, 1.0), (None, 300.0), (None, 1e30), (None, 0.0), (0, math.nan), (-1, math.nan)):
        changed = decoder(vocab_size=vocabulary)
        changed.lm_head.weight[number] *= size
        logits = NativeDecoder(changed).step(texts.memories[1], rows, ids, sums)
        logs = torch.tensor(list(sums.logs), dtype=torch.float64)
        if number is None:  # the logarithm is a float's
            torch.testing.assert_close(logs, logits.double().logsumexp(-1), rtol=1e-15, atol=2e-6)
            assert list(sums.best) == [next(i for i, x in enumerate(one) if x == max(one)) for one in logits.tolist()]
        else:
            assert bool(logs.isnan().all())
    for number in (0, -1):  # one weight that is infinite makes a logit that is
        changed = decoder(vocab_size=vocabulary)
        changed.lm_head.weight[number, 0] = math.inf
        logits = NativeDecoder(changed).step(texts.memories[1], rows, ids, sums)
        infinite = logits[:, number]
        assert bool(infinite.isinf().all())
        expected = torch.where(infinite > 0, math.nan, logits.double().logsumexp(-1))
        logs = torch.tensor(list(sums.logs), dtype=torch.float64)
        torch.testing.assert_close(logs, expected, rtol=1e-15, atol=2e-6, equal_nan=True)


@pytest.mark.parametrize("vocabulary", [2, 7, 50, 2000])
def test_sums_of_rows(calls: ctypes.CDLL, vocabulary: int):
    assert_sums_are_of_rows(vocabulary)


@pytest.mark.parametrize("scaling", [("dynamic", 3.0), ("linear", 2.0)])
def test_texts_of_different_reach_in_one_step(calls: ctypes.CDLL, scaling: tuple[str, float]):
    kind, factor = scaling
    model = decoder(rope_scaling=RopeScaling(rope_type=kind, factor=factor), max_position_embeddings=24)
    native, texts = NativeDecoder(model), Texts(model, 2, 2)
    texts.blocks[0] = texts.blocks[0][:4]
    texts.prefill([3, 23])
    rows, ids = [texts.rows(n, 1) for n in range(2)], [texts.ids(1) for _ in range(2)]
    torch.testing.assert_close(
        native.step(texts.memories[1], rows, ids), texts.by_torch(rows, ids), rtol=1e-4, atol=1e-4
    )


def test_weights_that_are_written_to_are_read_again(calls: ctypes.CDLL):
    model = decoder()
    native, texts = NativeDecoder(model), Texts(model, 1, 3)
    rows, ids = [texts.rows(0, 1)], [[7]]
    before = native.step(texts.memories[1], rows, ids)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.mul_(2.0)
    after = native.step(texts.memories[1], rows, ids)
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, texts.by_torch(rows, ids), rtol=1e-4, atol=1e-4)


def test_weights_that_are_replaced_are_read_again(calls: ctypes.CDLL):
    model = decoder()
    native, texts = NativeDecoder(model), Texts(model, 1, 3)
    rows, ids = [texts.rows(0, 1)], [[7]]
    before = native.step(texts.memories[1], rows, ids)
    down = model.model.layers[0].mlp.down_proj
    down.weight = torch.nn.Parameter(down.weight.detach() * 2.0)  # as a merged adapter does
    after = native.step(texts.memories[1], rows, ids)
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, texts.by_torch(rows, ids), rtol=1e-4, atol=1e-4)


def test_damaged_weights_show_in_the_logits(calls: ctypes.CDLL):
    model = decoder()
    model.model.norm.weight[3] = float("nan")
    native, texts = NativeDecoder(model), Texts(model, 1, 3)
    assert native.step(texts.memories[1], [texts.rows(0, 1)], [[7]]).isnan().all()


def test_nothing_to_read_gives_no_rows(calls: ctypes.CDLL):
    model = decoder()
    assert NativeDecoder(model).step(PagedMemory(model.config, 8), [], []).shape == (0, 50)


def test_other_steps_may_be_made_between_the_layers_of_a_prompt(calls: ctypes.CDLL):
    model = decoder(num_hidden_layers=3, max_position_embeddings=100)
    native, texts = NativeDecoder(model, threads=2), Texts(model, 2, 4)
    first, second, ids, others = texts.rows(0, 80), texts.rows(1, 16), texts.ids(80), texts.ids(16)
    expected = native.prefill(texts.memories[0], first, ids, 80), native.prefill(texts.memories[0], second, others, 16)
    made = []
    between = lambda: made.append(native.prefill(texts.memories[1], second, others, 16))  # noqa: E731
    assert torch.equal(native.prefill(texts.memories[1], first, ids, 80, between), expected[0])
    assert native.prefill(texts.memories[0], second, others, 1, between).shape == (1, 50)  # short: at once
    assert len(made) == 2 and all(torch.equal(one, expected[1]) for one in made)


def test_what_cannot_be_read_is_refused(calls: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch):
    model = decoder()
    native, memory = NativeDecoder(model), PagedMemory(model.config, 80)
    with pytest.raises(RequestError, match="more than the model's context of 64"):
        native.step(memory, [Rows(64, 1, [(0, 65)])], [[1]])
    for token in (-1, 50):
        with pytest.raises(RequestError, match="not among the model's 50"):
            native.step(memory, [Rows(0, 1, [(0, 1)])], [[token]])
    with pytest.raises(DeviceError, match=r"no keys and values in torch\.bfloat16"):
        native.step(PagedMemory(model.config, 8, torch.bfloat16), [Rows(0, 1, [(0, 1)])], [[1]])
    monkeypatch.setattr(module, "library", lambda: Found(None, "it was not built"))
    with pytest.raises(DeviceError, match="it was not built"):
        NativeDecoder(model)
