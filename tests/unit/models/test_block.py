"""The block: each placement is its formula, and what no family has is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bloomery.core.errors import ConfigError
from bloomery.models.attention import Attention, Mask
from bloomery.models.block import PLACEMENTS, Block
from bloomery.models.feed_forward import FeedForward


def _block(placement: str, *, parallel: bool = False, cross: bool = False) -> Block:
    torch.manual_seed(0)
    attention = Attention(hidden_size=16, num_heads=4, head_dim=4)
    other = Attention(hidden_size=16, num_heads=2, head_dim=8, memory_size=12) if cross else None
    block = Block(
        attention,
        FeedForward(16, 24, "relu", bias=True),
        lambda: nn.LayerNorm(16),
        placement=placement,
        parallel=parallel,
        cross_attention=other,
    )
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return block


X = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
CAUSAL = Mask(causal=True)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_placements(placement: str):
    block = _block(placement)

    def a(x: torch.Tensor) -> torch.Tensor:
        return block.self_attn(x, mask=CAUSAL)

    one, two, f = block.input_layernorm, block.post_attention_layernorm, block.mlp
    three, four = block.pre_feedforward_layernorm, block.post_feedforward_layernorm
    if placement == "pre":
        middle = X + a(one(X))  # type: ignore[misc]
        expected = middle + f(two(middle))
    elif placement == "post":
        middle = two(X + a(X))
        expected = four(middle + f(middle))  # type: ignore[misc]
    elif placement == "output":
        middle = X + two(a(X))
        expected = middle + four(f(middle))  # type: ignore[misc]
    else:
        middle = X + two(a(one(X)))  # type: ignore[misc]
        expected = middle + four(f(three(middle)))  # type: ignore[misc]
    torch.testing.assert_close(block(X, mask=CAUSAL), expected)


def test_post_is_pytorchs_layer():
    """The encoder layer of Vaswani et al., against PyTorch's own module."""
    block = _block("post")
    theirs = nn.TransformerEncoderLayer(16, 4, 24, dropout=0.0, batch_first=True)
    qkv = (block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj)
    assert block.post_feedforward_layernorm is not None
    with torch.no_grad():
        theirs.self_attn.in_proj_weight.copy_(torch.cat([part.weight for part in qkv]))
        theirs.self_attn.in_proj_bias.zero_()
        theirs.self_attn.out_proj.weight.copy_(block.self_attn.o_proj.weight)
        theirs.self_attn.out_proj.bias.zero_()
        for mine, other in (
            (block.mlp.up_proj, theirs.linear1),
            (block.mlp.down_proj, theirs.linear2),
            (block.post_attention_layernorm, theirs.norm1),
            (block.post_feedforward_layernorm, theirs.norm2),
        ):
            other.load_state_dict(mine.state_dict())  # type: ignore[union-attr]
    theirs.train()  # its evaluation takes another kernel
    torch.testing.assert_close(block(X), theirs(X), rtol=1e-5, atol=1e-5)


def test_parallel_adds_both_of_the_same_input():
    block = _block("pre", parallel=True)
    assert block.input_layernorm is not None
    expected = X + block.self_attn(block.input_layernorm(X)) + block.mlp(block.post_attention_layernorm(X))
    torch.testing.assert_close(block(X), expected)


@pytest.mark.parametrize("placement", ["pre", "post"])
def test_cross_attention_sees_the_memory(placement: str):
    block = _block(placement, cross=True)
    assert block.cross_attn is not None
    memory = torch.randn(2, 6, 12)
    hidden = torch.ones(2, 1, 1, 6, dtype=torch.bool)
    hidden[:, :, :, 4:] = False

    def run(values: torch.Tensor) -> torch.Tensor:
        assert block.cross_attn is not None
        return block(X, memory=block.cross_attn.keys_values(values, None), memory_mask=Mask(hidden))

    changed = memory.clone()
    changed[:, 4:] += 5  # what the mask hides
    torch.testing.assert_close(run(memory), run(changed))
    changed[:, 0] += 5
    assert (run(memory) - run(changed)).abs().max() > 1e-3


@pytest.mark.parametrize(
    "options",
    [{"placement": "middle"}, {"placement": "both", "parallel": True}, {"placement": "output", "cross": True}],
)
def test_what_no_family_has(options: dict):
    with pytest.raises(ConfigError):
        _block(**options)
