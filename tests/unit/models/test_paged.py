"""Paged keys and values: a ragged step gives what a contiguous cache gives, wherever the blocks lie."""

from __future__ import annotations

import random

import pytest
import torch

from bloomery.models import Decoder, KVCache, ModelConfig
from bloomery.models.paged import PagedMemory, PagedStep, Rows


def config(**changes) -> ModelConfig:
    sizes = {
        "vocab_size": 60,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 128,
    }
    return ModelConfig(**{**sizes, **changes})


def decoder(seed: int = 0, **changes) -> Decoder:
    torch.manual_seed(seed)
    model = Decoder(config(**changes)).eval()
    for parameter in model.parameters():  # no block is the identity here
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def scattered(positions: int, block: int, rng: random.Random) -> list[list[tuple[int, int]]]:
    """Runs of three sequences whose blocks lie mixed in one memory."""
    blocks = list(range(positions // block))
    rng.shuffle(blocks)
    return [[(b * block, block) for b in blocks[i::3]] for i in range(3)]


def cut(runs: list[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    kept = []
    for first, size in runs:
        kept.append((first, min(size, length)))
        length -= size
        if length <= 0:
            break
    return kept


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


FAMILIES = {
    "qwen3": {},
    "llama3 rope": {"model_type": "llama"},
    "gpt2": {"model_type": "gpt2", "num_key_value_heads": 4, "mlp_bias": True, "hidden_act": "gelu_new"},
    "gemma2": {
        "model_type": "gemma2",
        "sliding_window": 5,
        "layer_types": ("sliding_attention", "full_attention", "sliding_attention"),
        "attn_logit_softcapping": 20.0,
        "query_pre_attn_scalar": 8,
    },
}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("block", [1, 4, 16])
def test_mixed_steps_equal_each_sequence_alone(name: str, block: int):
    model, rng = decoder(**FAMILIES[name]), random.Random(block)
    memory = PagedMemory(model.config, 192)
    places = scattered(192, block, rng)
    texts = [torch.randint(0, 60, (n,), generator=torch.Generator().manual_seed(n)) for n in (23, 9, 31)]
    expected = [model(text[None])[0] for text in texts]
    found: list[list[torch.Tensor]] = [[], [], []]
    read = [0, 0, 0]
    while any(read[i] < len(texts[i]) for i in range(3)):
        rows, parts, who = [], [], []
        for i, text in enumerate(texts):
            count = min(rng.choice([0, 1, 1, 4, 7]), len(text) - read[i])
            if count:
                rows.append(Rows(read[i], count, cut(places[i], read[i] + count)))
                parts.append(text[read[i] : read[i] + count])
                who.append((i, count))
                read[i] += count
        if rows:
            hidden = model.hidden_states(torch.cat(parts)[None], cache=PagedStep(memory, rows))
            for (i, _), part in zip(who, model.logits(hidden)[0].split([n for _, n in who]), strict=True):
                found[i].append(part)
    for mine, reference in zip(found, expected, strict=True):
        # The same sums in another order: float32 rounding of a few layers.
        torch.testing.assert_close(torch.cat(mine), reference, rtol=0, atol=2e-5)


def test_a_contiguous_cache_and_pages_agree():
    model, ids = decoder(), torch.randint(0, 60, (1, 30), generator=torch.Generator().manual_seed(3))
    cache, memory = KVCache(model.config, 1, 30), PagedMemory(model.config, 64)
    for start, end in ((0, 11), (11, 12), (12, 30)):
        one = model(ids[:, start:end], cache=cache)
        rows = Rows(start, end - start, cut([(32, 32), (0, 32)], end))
        two = model.logits(model.hidden_states(ids[:, start:end], cache=PagedStep(memory, [rows])))
        torch.testing.assert_close(one, two, rtol=0, atol=1e-5)


def test_copied_positions_are_read_like_the_first():
    model, ids = decoder(), torch.arange(8)[None]
    memory = PagedMemory(model.config, 32)
    model.hidden_states(ids, cache=PagedStep(memory, [Rows(0, 8, [(0, 8)])]))
    memory.copy(slice(0, 8), slice(16, 24))
    first, second = (
        model.hidden_states(ids[:, :1], cache=PagedStep(memory, [Rows(8, 1, [(at, 9)])])) for at in (0, 16)
    )
    assert torch.equal(first, second)


def test_float16_memory_is_within_its_rounding_and_holds_what_is_too_large():
    model = decoder()
    rows = torch.tensor([1.0 + 2**-11, 1e6, -1e6, 65504.0]).repeat(2)[None, None, None].expand(1, 2, 1, 8)
    memory = PagedMemory(model.config, 4, torch.float16)
    memory.write(0, torch.tensor([2]), rows, -rows)
    keys, values = memory.read(0, [(2, 1)], 0, torch.float32)
    assert keys[0, 0, 0, :4].tolist() == [1.0, 65504.0, -65504.0, 65504.0] and torch.equal(values, -keys)
    memory.write(0, torch.tensor([1]), rows.bfloat16(), -rows.bfloat16())
    keys, _ = memory.read(0, [(1, 1)], 0, torch.float32)
    assert keys[0, 0, 0, 1:3].tolist() == [65504.0, -65504.0]
    assert PagedMemory.bytes_per_position(model.config, torch.float16) == 2 * 3 * 2 * 8 * 2


def test_int8_memory_is_within_its_rounding_and_a_quarter_of_the_size():
    model = decoder()
    ids = torch.randint(0, 60, (1, 24), generator=torch.Generator().manual_seed(1))
    exact, small = PagedMemory(model.config, 32), PagedMemory(model.config, 32, torch.int8)
    outs = [model.hidden_states(ids, cache=PagedStep(one, [Rows(0, 24, [(0, 24)])])) for one in (exact, small)]
    # Rounding is at most half a step of 1/127 of the largest value of each key and value.
    kept, _ = small.read(0, [(0, 24)], 0, torch.float32)
    truth, _ = exact.read(0, [(0, 24)], 0, torch.float32)
    assert bool(((kept - truth).abs() <= truth.abs().amax(-1, keepdim=True) / 254 * 1.001).all())
    assert float((outs[0] - outs[1]).abs().max()) < 0.05 * float(outs[0].abs().max())
    bytes_exact = PagedMemory.bytes_per_position(model.config, torch.float32)
    assert bytes_exact == 2 * 3 * 2 * 8 * 4
    assert PagedMemory.bytes_per_position(model.config, torch.int8) == 2 * 3 * 2 * (8 + 4)
