"""The one attention: fused and open forms agree, masks hide what they should, rows sum to one."""

from __future__ import annotations

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.models.attention import (
    BACKENDS,
    EVERYTHING,
    Attention,
    Mask,
    attend,
    block_diagonal,
    causal_mask,
    scores,
    use_backend,
    weights,
    window_mask,
)
from bloomery.models.norms import RMSNorm

CPU = torch.device("cpu")


def _qkv(heads: int = 4, kv_heads: int = 2, queries: int = 7, keys: int = 7):
    torch.manual_seed(0)
    return torch.randn(2, heads, queries, 8), torch.randn(2, kv_heads, keys, 8), torch.randn(2, kv_heads, keys, 8)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize(
    "mask",
    [
        EVERYTHING,
        Mask(causal=True),
        Mask(window_mask(7, 2, CPU)),
        Mask(torch.linspace(-2, 2, 49).view(7, 7)),
        causal_mask(0, 7, 3, CPU),
    ],
    ids=["all", "causal", "window", "bias", "causal window"],
)
def test_the_open_form_is_the_fused_one(mask: Mask, kv_heads: int):
    query, key, value = _qkv(kv_heads=kv_heads)
    fused = attend(query, key, value, mask, scale=0.3, softcap=None)
    # A cap of a million caps nothing, but takes the open way.
    torch.testing.assert_close(attend(query, key, value, mask, scale=0.3, softcap=1e6), fused, rtol=1e-4, atol=1e-5)
    rows = weights(query, key, mask, scale=0.3)
    torch.testing.assert_close(rows.sum(-1), torch.ones(2, 4, 7))
    torch.testing.assert_close(rows @ value.repeat_interleave(4 // kv_heads, 1), fused, rtol=1e-4, atol=1e-5)


def test_a_cap_bounds_scores():
    query, key, _ = _qkv()
    assert scores(query * 100, key, scale=1.0, softcap=2.0).abs().max() <= 2.0
    assert scores(query * 100, key, scale=1.0).abs().max() > 100


@pytest.mark.parametrize(("start", "length", "window"), [(0, 6, None), (4, 3, None), (0, 6, 2), (4, 3, 2), (5, 1, 3)])
def test_causal_mask(start: int, length: int, window: int | None):
    mask = causal_mask(start, length, window, CPU)
    total = start + length
    seen = torch.ones(length, total, dtype=torch.bool) if mask.tensor is None else mask.tensor
    if mask.causal:
        assert start == 0
        seen = seen.tril()
    for row in range(length):
        position = start + row
        first = 0 if window is None else max(0, position - window + 1)
        assert seen[row].nonzero().flatten().tolist() == list(range(first, position + 1))


def test_a_short_sequence_needs_no_mask():
    assert causal_mask(0, 4, 4, CPU) == Mask(causal=True)
    assert causal_mask(9, 1, None, CPU) is EVERYTHING


def test_cross_attention_is_multihead_attention():
    """Against PyTorch's own module, with a memory of another width."""
    torch.manual_seed(0)
    theirs = torch.nn.MultiheadAttention(16, 4, kdim=24, vdim=24, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_bias.normal_()
    ours = Attention(hidden_size=16, num_heads=4, head_dim=4, memory_size=24, qkv_bias=True, output_bias=True)
    biases = theirs.in_proj_bias.chunk(3)
    parts = (theirs.q_proj_weight, theirs.k_proj_weight, theirs.v_proj_weight)
    with torch.no_grad():
        for layer, weight, bias in zip((ours.q_proj, ours.k_proj, ours.v_proj), parts, biases, strict=True):
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
        ours.o_proj.load_state_dict(theirs.out_proj.state_dict())
    x, memory = torch.randn(2, 5, 16), torch.randn(2, 9, 24)
    hidden = torch.zeros(2, 9, dtype=torch.bool)
    hidden[1, 6:] = True
    expected, shares = theirs(x, memory, memory, key_padding_mask=hidden, average_attn_weights=False)
    mask = Mask(~hidden[:, None, None, :])
    got = ours(x, memory=ours.keys_values(memory, None), mask=mask)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    keys = ours.keys_values(memory, None)[0]
    torch.testing.assert_close(weights(ours.queries(x, None), keys, mask, scale=ours.scale), shares)


@pytest.mark.parametrize(("kind", "sizes"), [("head", (4, 4)), ("projection", (16, 8))])
def test_norms_of_queries_and_keys(kind: str, sizes: tuple[int, int]):
    attention = Attention(
        hidden_size=16, num_heads=4, num_kv_heads=2, head_dim=4, qk_norm=kind, norm=lambda size: RMSNorm(size, 1e-6)
    )
    assert attention.q_norm is not None and attention.k_norm is not None
    assert (attention.q_norm.weight.numel(), attention.k_norm.weight.numel()) == sizes
    query = attention.queries(torch.randn(2, 5, 16), None)
    over = (-1,) if kind == "head" else (1, 3)
    torch.testing.assert_close(query.square().mean(over), torch.ones_like(query.square().mean(over)), rtol=1e-3, atol=0)


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("near", [None, 2, "before"])
@pytest.mark.parametrize("backend", ["sdpa", "sdpa_together", "flex_eager"])
def test_texts_of_one_row_see_themselves_only(backend: str, near: int | str | None, softcap: float | None):
    causal, near = near == "before", None if isinstance(near, str) else near
    query, key, value = (x[:1] for x in _qkv(queries=16, keys=16))
    lengths = (3, 3, 1, 5, 4)
    window = None if near is None else window_mask(5, near, CPU)
    mask = Mask(window, lengths=lengths, causal=causal)
    found = attend(query, key, value, mask, scale=0.3, softcap=softcap, backend=backend)
    parts = []
    for q, k, v in zip(*(x.split(lengths, dim=2) for x in (query, key, value)), strict=True):
        own = Mask(None if window is None else window[: q.size(2), : q.size(2)], causal=causal)
        parts.append(attend(q, k, v, own, scale=0.3, softcap=softcap))
    torch.testing.assert_close(found, torch.cat(parts, dim=2), rtol=1e-4, atol=1e-5)
    rows = weights(query, key, mask, scale=0.3, softcap=softcap)
    torch.testing.assert_close(rows @ value.repeat_interleave(2, 1), found, rtol=1e-4, atol=1e-5)
    assert block_diagonal(mask, CPU) is block_diagonal(mask, CPU)


def test_a_backend_is_chosen_by_name():
    inner = Attention(hidden_size=16, num_heads=4, head_dim=4)
    model, x = torch.nn.ModuleList([torch.nn.Linear(3, 3), inner]), torch.randn(2, 9, 16)
    outs = []
    for name in ("sdpa", "sdpa_apart", "sdpa_together", "flex_eager"):
        use_backend(model, name)
        assert inner.backend == name
        with torch.inference_mode():
            outs.append(inner(x, mask=Mask(causal=True)))
    for out in outs[1:]:
        torch.testing.assert_close(out, outs[0], rtol=1e-4, atol=1e-6)
    with pytest.raises(ConfigError, match="unknown attention 'sdpaa'") as caught:
        use_backend(model, "sdpaa")
    assert "sdpa" in str(caught.value.hint) and len(BACKENDS) == 6


def test_value_embeddings_are_added_head_by_head():
    torch.manual_seed(0)
    attention = Attention(hidden_size=64, num_heads=4, num_kv_heads=2, head_dim=8, value_gate=True)
    assert attention.v_gate is not None and attention.v_gate.weight.shape == (2, 32)
    x, extra = torch.randn(2, 5, 64), torch.randn(2, 5, 16)
    with torch.no_grad():
        plain = attention.keys_values(x, None)
        keys, values = attention.keys_values(x, None, extra)
        gates = 2 / (1 + torch.exp(-(x[..., :32] @ attention.v_gate.weight.T)))
        for head in range(2):
            added = gates[..., head, None] * extra[..., head * 8 : head * 8 + 8]
            torch.testing.assert_close(values[:, head], plain[1][:, head] + added, rtol=1e-5, atol=1e-5)
    assert torch.equal(keys, plain[0])
