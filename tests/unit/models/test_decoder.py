"""The decoder: caching changes nothing, and it works where training and serving use it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bloomery.core.errors import RequestError
from bloomery.models import Decoder, KVCache, ModelConfig

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


def _decoder(**changes) -> Decoder:
    torch.manual_seed(0)
    decoder = Decoder(replace(CONFIG, **changes)).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():  # a fresh decoder's blocks write nothing
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return decoder


@torch.inference_mode()
@pytest.mark.parametrize("splits", [[20], [1] * 20, [13, 7], [5, 1, 1, 8, 5], [19, 1]])
@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_cached_steps_equal_the_whole(family: str, splits: list[int]):
    decoder = _decoder(model_type=family)
    ids = torch.randint(0, 67, (3, 20))
    whole = decoder(ids)
    cache, parts, start = KVCache(decoder.config, 3, 20), [], 0
    for size in splits:
        parts.append(decoder(ids[:, start : start + size], cache=cache))
        start += size
    assert cache.length == 20
    assert (torch.cat(parts, dim=1) - whole).abs().max() < 1e-5


@torch.inference_mode()
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
