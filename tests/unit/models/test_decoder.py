"""The decoder: caching changes nothing, and it works where training and serving use it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.core.errors import RequestError
from bloomery.models import Decoder, KVCache, ModelConfig, RopeScaling, load_pretrained, save_pretrained
from bloomery.models.attention import use_backend
from bloomery.models.paged import PagedMemory, PagedStep, Rows

CONFIG = ModelConfig(
    vocab_size=67,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=48,
)
BLOOM: dict[str, Any] = {
    "model_type": "bloom",
    "intermediate_size": 128,
    "hidden_act": "gelu_pytorch_tanh",
    "attention_bias": True,
    "mlp_bias": True,
    "tie_word_embeddings": True,
}
SIX = {"num_attention_heads": 6, "num_key_value_heads": 6}


def _decoder(**changes) -> Decoder:
    torch.manual_seed(0)
    decoder = Decoder(replace(CONFIG, **changes)).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():  # a fresh decoder's blocks write nothing
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return decoder


DYNAMIC = RopeScaling(rope_type="dynamic", factor=4.0)
LONG = RopeScaling(
    rope_type="longrope",
    short_factor=(1.0, 1.2, 1.5, 2.0),
    long_factor=(1.0, 2.0, 4.0, 9.0),
    original_max_position_embeddings=16,
)
KINDS = {
    "qwen3": {},
    "llama": {"model_type": "llama"},
    "bloom": {**BLOOM, "num_attention_heads": 4, "num_key_value_heads": 4},
    "bloom, one and a half powers": {**BLOOM, "hidden_size": 48, "intermediate_size": 192, **SIX},
    "value embeddings": {"model_type": "bloomery", "value_embedding_layers": (0, 1)},
    "bigrams": {"model_type": "bloomery", "bigram_vocab_size": 97},
    "both": {"model_type": "bloomery", "value_embedding_layers": (1,), "bigram_vocab_size": 97},
    "dynamic scaling": {"rope_scaling": DYNAMIC, "max_position_embeddings": 12},
    "longrope": {"rope_scaling": LONG},
}


@torch.inference_mode()
@pytest.mark.parametrize("splits", [[20], [1] * 20, [13, 7], [5, 1, 1, 8, 5], [19, 1]])
@pytest.mark.parametrize("kind", KINDS)
def test_cached_steps_equal_the_whole(kind: str, splits: list[int]):
    """Also where frequencies depend on the length: a cache for 20 positions has those of 20 from its first step on."""
    decoder = _decoder(**KINDS[kind])
    ids = torch.randint(0, 67, (3, 20))
    whole = decoder(ids)
    cache, parts, start = KVCache(decoder.config, 3, 20), [], 0
    for size in splits:
        parts.append(decoder(ids[:, start : start + size], cache=cache))
        start += size
    assert cache.length == 20
    assert (torch.cat(parts, dim=1) - whole).abs().max() < 1e-5


@torch.inference_mode()
@pytest.mark.parametrize("kind", KINDS)
def test_several_texts_in_one_paged_step_are_each_by_itself(kind: str):
    """Two texts of different lengths and reaches, read in parts and then token by token in one row."""
    decoder = _decoder(**KINDS[kind])
    texts = [torch.randint(0, 67, (1, 20)), torch.randint(0, 67, (1, 9))]
    memory = PagedMemory(decoder.config, 64)
    places, found = ((0, 24), (32, 12)), [[], []]

    def step(*parts: tuple[int, int, int]) -> None:
        rows, ids = [], []
        for number, start, stop in parts:
            text = texts[number][0]
            reach = decoder.config.reach(text.size(0))
            rows.append(Rows(start, stop - start, [(places[number][0], stop)], reach))
            ids.append(text[start:stop])
        hidden = decoder.hidden_states(torch.cat(ids)[None], cache=PagedStep(memory, rows))
        sizes = [stop - start for _, start, stop in parts]
        for (number, _, _), part in zip(parts, hidden.split(sizes, dim=1), strict=True):
            found[number].append(part)

    step((0, 0, 7))
    step((0, 7, 14), (1, 0, 3))
    for place in range(6):
        step((1, 3 + place, 4 + place), (0, 14 + place, 15 + place))
    for text, parts in zip(texts, found, strict=True):
        assert (torch.cat(parts, dim=1) - decoder.hidden_states(text)).abs().max() < 1e-5


@torch.inference_mode()
@pytest.mark.parametrize("backend", ["sdpa", "sdpa_together", "flex_eager"])
@pytest.mark.parametrize("kind", [*KINDS, "windows"])
def test_whole_texts_in_one_row_are_each_by_itself(kind: str, backend: str):
    """What a text gets is what it gets alone, with every kind of position, reach and neighbour."""
    windows = {"model_type": "gemma2", "sliding_window": 4, "query_pre_attn_scalar": 8.0}
    decoder = _decoder(**{**KINDS, "windows": windows}[kind])
    lengths = (7, 3, 11, 11, 1, 5)
    texts = [torch.randint(0, 67, (1, length)) for length in lengths]
    expected = torch.cat([decoder.hidden_states(text) for text in texts], dim=1)
    use_backend(decoder, backend)
    found = decoder.hidden_states(torch.cat(texts, dim=1), lengths=lengths)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_recomputed_layers_give_the_same_gradients():
    decoder, ids = _decoder(), torch.randint(0, 67, (2, 9))
    gradients = []
    for recomputes in (False, True):
        decoder.recomputes = recomputes
        decoder.zero_grad()
        decoder(ids).square().mean().backward()
        gradients.append([p.grad.clone() for p in decoder.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 10
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two)


def test_last_only_and_batches():
    decoder = _decoder()
    ids = torch.randint(0, 67, (4, 9))
    whole = decoder(ids)
    assert torch.allclose(decoder(ids, last_only=True), whole[:, -1:], atol=1e-6)
    assert torch.allclose(decoder(ids[2:3]), whole[2:3], atol=1e-5)
    assert torch.allclose(decoder.hidden_states(ids) @ decoder.output_weight.T, whole, atol=1e-6)


@torch.inference_mode()
def test_no_token_sees_a_later_one():
    decoder = _decoder()
    ids = torch.randint(0, 67, (1, 12))
    changed = ids.clone()
    changed[0, 7] = (changed[0, 7] + 1) % 67
    difference = (decoder(ids) - decoder(changed)).abs().amax(-1)[0]
    assert difference[:7].max() == 0 and difference[7:].min() > 0


def test_too_long_is_said():
    decoder = _decoder()
    with pytest.raises(RequestError, match="49 tokens are more than the model's context of 48"):
        decoder(torch.zeros(1, 49, dtype=torch.long))
    cache = KVCache(CONFIG, 1, 8)
    with pytest.raises(RequestError, match="cache of 8"):
        decoder(torch.zeros(1, 9, dtype=torch.long), cache=cache)
    assert cache.length == 0


def test_fresh_blocks_are_the_identity():
    torch.manual_seed(0)
    decoder = Decoder(CONFIG)
    ids = torch.tensor([[3, 5]])
    embedded = decoder.model.embed_tokens(ids)
    assert torch.allclose(decoder.hidden_states(ids), decoder.model.norm(embedded))
    assert decoder.model.embed_tokens.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_tied_heads_share_and_names_are_hugging_faces():
    tied = Decoder(replace(CONFIG, tie_word_embeddings=True))
    assert tied.output_weight is tied.model.embed_tokens.weight
    assert "lm_head.weight" not in dict(tied.named_parameters())
    names = set(dict(_decoder().named_parameters()))
    assert {"model.embed_tokens.weight", "model.layers.1.self_attn.q_norm.weight", "lm_head.weight"} <= names
    assert not list(tied.buffers())


def test_autocast_is_close_and_trains():
    decoder = _decoder().train()
    ids = torch.randint(0, 67, (2, 16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = decoder(ids)
        loss = logits.float().logsumexp(-1).mean()
    assert logits.dtype == torch.bfloat16
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in decoder.parameters())
    # bfloat16 keeps 8 bits: logits of about one are good to a few hundredths.
    assert (logits.float() - decoder(ids)).abs().max() < 0.15


def test_what_is_first_run_in_inference_mode_still_trains():
    decoder = _decoder()
    ids = torch.randint(0, 67, (1, 4))
    with torch.inference_mode():
        decoder(ids)
    decoder(ids).sum().backward()
    assert decoder.model.embed_tokens.weight.grad is not None


def test_compiled_is_the_same():
    decoder = _decoder()
    ids = torch.randint(0, 67, (2, 16))
    # Rotary tables are not there yet: making them is part of the graph, which has no break.
    # aot_eager traces forward and backward as inductor has them, without waiting for its C++.
    compiled = torch.compile(decoder, dynamic=False, fullgraph=True, backend="aot_eager")
    logits = compiled(ids)
    assert (logits - decoder(ids)).abs().max() < 1e-5
    logits.sum().backward()
    assert all(p.grad is not None for p in decoder.parameters())


def test_llama_biases():
    decoder = _decoder(model_type="llama", attention_bias=True, mlp_bias=True)
    names = set(dict(decoder.named_parameters()))
    assert "model.layers.0.self_attn.o_proj.bias" in names and "model.layers.0.mlp.down_proj.bias" in names
    assert "model.layers.0.self_attn.q_norm.weight" not in names


@torch.inference_mode()
@pytest.mark.parametrize(
    ("scaling", "context", "original"), [(DYNAMIC, 12, 12), (LONG, 48, 16)], ids=["dynamic", "longrope"]
)
def test_frequencies_are_those_of_all_that_a_cache_can_hold(scaling: RopeScaling, context: int, original: int):
    """Within the original context nothing changes; beyond, a larger cache gives other numbers, whatever is in it."""
    decoder = _decoder(rope_scaling=scaling, max_position_embeddings=context)
    ids = torch.randint(0, 67, (1, 8))
    whole = decoder(ids)
    assert torch.allclose(decoder(ids, cache=KVCache(decoder.config, 1, original)), whole, atol=1e-5)
    stretched = decoder(ids, cache=KVCache(decoder.config, 1, original + 8))
    assert (stretched - whole).abs().max() > 1e-3
    # Tables of one length are not taken for those of another.
    assert torch.equal(decoder(ids), whole)
    with pytest.raises(RequestError, match=f"model's context of {decoder.context_length}"):
        decoder(torch.zeros(1, 49, dtype=torch.long))


@torch.inference_mode()
def test_a_bigram_needs_the_token_before_even_after_a_crop():
    decoder = _decoder(model_type="bloomery", bigram_vocab_size=97)
    ids = torch.randint(0, 67, (2, 12))
    whole = decoder(ids)
    cache = KVCache(decoder.config, 2, 12)
    decoder(torch.cat((ids[:, :5], (ids[:, 5:8] + 1) % 67), dim=1), cache=cache)
    cache.crop(5)
    assert (decoder(ids[:, 5:], cache=cache) - whole[:, 5:]).abs().max() < 1e-5
    cache.reset()
    assert (decoder(ids, cache=cache) - whole).abs().max() < 1e-5


def test_our_own_embeddings_begin_as_nothing_and_are_saved(tmp_path: Path):
    torch.manual_seed(0)
    options = {"model_type": "bloomery", "value_embedding_layers": (1,), "bigram_vocab_size": 97}
    fresh = Decoder(replace(CONFIG, **options))
    ids = torch.tensor([[3, 5]])
    assert torch.allclose(fresh.hidden_states(ids), fresh.model.norm(fresh.model.embed_tokens(ids)))
    assert not fresh.model.embed_bigrams.table.weight.any() and fresh.model.embed_values["1"].weight.any()
    decoder = _decoder(**options)
    save_pretrained(decoder, tmp_path)
    again = load_pretrained(tmp_path)
    assert again.config == decoder.config
    with torch.inference_mode():
        assert torch.equal(again(ids), decoder(ids))


@pytest.mark.parametrize("options", [{"value_embedding_layers": (0, 1)}, {"bigram_vocab_size": 512}])
def test_our_own_embeddings_learn(options: dict[str, Any]):
    """What follows a pair of tokens and nothing less: a bigram table sees it at once, values through attention."""
    torch.manual_seed(0)
    decoder = Decoder(replace(CONFIG, model_type="bloomery", **options))
    table = torch.randint(0, 67, (67, 67))
    ids = torch.randint(0, 8, (16, 24))
    for place in range(2, 24):
        ids[:, place] = table[ids[:, place - 2], ids[:, place - 1]] % 8
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        logits = decoder(ids)
        loss = torch.nn.functional.cross_entropy(logits[:, 1:-1].flatten(0, 1), ids[:, 2:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.3 < 2 < losses[0]
    own = [p for name, p in decoder.named_parameters() if "embed_values" in name or "bigrams" in name or "gate" in name]
    assert own and all(p.abs().max() > 0.03 for p in own)
