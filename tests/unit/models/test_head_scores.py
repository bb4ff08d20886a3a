"""Head scores: heads made by hand whose scores are known, and the plain formula on the whole matrix."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from bloomery.core.errors import RequestError
from bloomery.models import Decoder, ModelConfig
from bloomery.models.head_scores import head_statistics, induction_scores
from bloomery.models.inside import capture

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
}


def _random() -> Decoder:
    torch.manual_seed(0)
    decoder = Decoder(ModelConfig(**SIZES)).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return decoder


@torch.no_grad()
def _by_hand() -> Decoder:
    """GPT-2 with one-hot tokens and positions. Layer 0, head 0 looks one position back and copies the token there to
    another place of the residual stream; layer 1, head 0 looks where that copy is its own token: an induction head
    in two layers. Every other head looks at all alike."""
    tokens, places = 24, 40
    size = 2 * tokens + places
    decoder = Decoder(
        ModelConfig(
            model_type="gpt2",
            vocab_size=tokens,
            hidden_size=size,
            intermediate_size=8,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=size // 2,
            max_position_embeddings=places,
            rms_norm_eps=1e-5,
            hidden_act="gelu_new",
            attention_bias=True,
            mlp_bias=True,
            tie_word_embeddings=True,
        )
    ).eval()
    for name, parameter in decoder.named_parameters():
        parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
    trunk = decoder.model
    assert trunk.embed_positions is not None
    trunk.embed_tokens.weight[:, :tokens] = torch.eye(tokens)
    trunk.embed_positions.weight[:, 2 * tokens :] = torch.eye(places)
    first, second = trunk.layers[0].self_attn, trunk.layers[1].self_attn
    width = first.head_dim
    sharp = 30.0
    for place in range(1, places):  # a query asks for the position before its own
        first.q_proj.weight[place - 1, 2 * tokens + place] = sharp
    for place in range(places):
        first.k_proj.weight[place, 2 * tokens + place] = sharp
    for token in range(tokens):  # and brings that position's token into the copies' place
        first.v_proj.weight[token, token] = 1.0
        first.o_proj.weight[tokens + token, token] = 1.0
        second.q_proj.weight[token, token] = sharp
        second.k_proj.weight[token, tokens + token] = sharp
    assert width >= places >= tokens
    return decoder


def test_an_induction_head_made_by_hand():
    scores = induction_scores(_by_hand(), length=16, rows=3)
    assert scores.shape == (2, 2)
    # The first token sees only itself, and so bears its own copy: when it comes again, half goes there.
    assert float(scores[1, 0]) == pytest.approx(15.5 / 16, abs=1e-3)
    assert scores[0, 0] < 0.01
    # The idle heads look at all keys alike: queries 16 .. 31 see 17 .. 32 of them.
    uniform = sum(1 / (n + 1) for n in range(16, 32)) / 16
    assert scores[:, 1].tolist() == pytest.approx([uniform, uniform], abs=1e-5)


def test_a_previous_token_head_made_by_hand():
    decoder = _by_hand()
    with capture(decoder) as looks:
        decoder(torch.arange(20)[None])
    first = head_statistics(looks["model.layers.0.self_attn"])
    assert first.previous[0] > 0.99 and first.entropy[0] < 0.1
    assert float(first.entropy[1]) == pytest.approx(sum(math.log(n) for n in range(1, 21)) / 20, abs=1e-5)
    assert float(first.previous[1]) == pytest.approx(sum(1 / n for n in range(2, 21)) / 19, abs=1e-5)


def test_the_formula_on_the_whole_matrix():
    decoder, length, rows = _random(), 12, 2
    found = induction_scores(decoder, length=length, rows=rows, seed=3, first_tokens=(1,))
    generator = torch.Generator().manual_seed(3)
    once = torch.stack([torch.randperm(64, generator=generator)[:length] for _ in range(rows)])
    ids = torch.cat((torch.ones(rows, 1, dtype=torch.int64), once, once), dim=1)
    with capture(decoder) as looks:
        decoder(ids)
    for layer in range(2):
        look = looks[f"model.layers.{layer}.self_attn"]
        for head in range(2):
            expected = [
                float(look.weights(0, 25, batch=row)[head, query, query - length + 1])
                for row in range(rows)
                for query in range(1 + length, 1 + 2 * length)
            ]
            assert float(found[layer, head]) == pytest.approx(sum(expected) / len(expected), abs=1e-6)


def test_nothing_of_training_is_touched():
    decoder = _random().train()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    once = induction_scores(decoder)
    assert torch.equal(torch.get_rng_state(), before) and decoder.training
    assert torch.equal(once, induction_scores(decoder)) and not once.requires_grad
    assert not torch.equal(once, induction_scores(decoder, seed=1))


def test_tokens_may_be_drawn_from_some():
    decoder, some = _random(), list(range(40, 52))
    found = induction_scores(decoder, length=12, rows=3, seed=3, drawn_from=some)
    generator = torch.Generator().manual_seed(3)
    once = torch.stack([torch.tensor(some)[torch.randperm(12, generator=generator)] for _ in range(3)])
    with capture(decoder) as looks:
        decoder(torch.cat((once, once), dim=1))
    weights = [looks["model.layers.1.self_attn"].weights(12, 24, batch=row)[0] for row in range(3)]
    expected = sum(float(one[query, query + 1]) for one in weights for query in range(12)) / 36
    assert float(found[1, 0]) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(RequestError, match="13 different tokens are more than"):
        induction_scores(decoder, length=13, drawn_from=some)


@pytest.mark.parametrize("options", [{"length": 65}, {"length": 1}, {"rows": 0}, {"length": 64, "first_tokens": (1,)}])
def test_what_does_not_fit(options: dict[str, Any]):
    with pytest.raises(RequestError):
        induction_scores(_random(), **options)
