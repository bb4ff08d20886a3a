"""Choosing a format: the fastest within the bound, by times and losses that are measured."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bloomery.models import Decoder, ModelConfig, packed_choice
from bloomery.models.packed_choice import PLAIN, choose, divergence, measure, shared_copy, timed, written_by
from bloomery.models.packing import pack, packing_of


@pytest.fixture
def decoder() -> Decoder:
    torch.manual_seed(0)
    made = Decoder(
        ModelConfig(
            vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=16, max_position_embeddings=32, tie_word_embeddings=True,
        )
    ).eval()  # fmt: skip
    for parameter in made.requires_grad_(False).parameters():
        parameter += torch.randn_like(parameter) * 0.1
    return made


def speeds(monkeypatch: pytest.MonkeyPatch, **values: float) -> None:
    """As if a machine had measured these."""
    monkeypatch.setattr(packed_choice, "measure", lambda *_, **__: {k.replace("_", "-"): v for k, v in values.items()})


def test_the_fastest_within_the_bound(decoder: Decoder, monkeypatch: pytest.MonkeyPatch):
    speeds(monkeypatch, float32=1.2, float16=2.0, int8=3.0, int4=4.0)
    kinds = ["float32", "float16", "int8", "int4"]
    chosen, choice = choose(decoder, kinds, max_loss_nats=10.0)
    assert choice.format == "int4" and list(choice.loss_nats) == ["int4"]
    assert chosen is not decoder and choice.packing == packing_of(chosen) and packing_of(decoder) is None
    assert chosen.model.embed_tokens.weight is decoder.model.embed_tokens.weight  # shared, not copied
    chosen, choice = choose(decoder, kinds, max_loss_nats=1e-4)
    assert choice.format == "float16" and list(choice.loss_nats) == ["int4", "int8", "float16"]
    assert choice.loss_nats["int4"] > choice.loss_nats["int8"] > 1e-4 >= choice.loss_nats["float16"]
    assert choice.to_dict()["format"] == "float16"


def test_plain_where_nothing_is_faster_or_all_lose_too_much(decoder: Decoder, monkeypatch: pytest.MonkeyPatch):
    speeds(monkeypatch, float32=0.9, int8=0.5)
    chosen, choice = choose(decoder, ["float32", "int8"])
    assert chosen is decoder and choice.format == PLAIN and choice.packing is None and not choice.loss_nats
    speeds(monkeypatch, int4=9.0)
    chosen, choice = choose(decoder, ["int4"], max_loss_nats=1e-9)
    assert chosen is decoder and choice.format == PLAIN and choice.loss_nats["int4"] > 1e-9


def test_speeds_are_measured(decoder: Decoder):
    found = measure(decoder, ["float16", "int8"], rows=(1, 8))
    assert set(found) == {"float16", "int8"} and all(0.01 < value < 100 for value in found.values())


def test_a_slow_layer_is_seen_to_be_slow():
    class Slow(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(50):
                x = x @ x.t() @ x / x.norm()
            return x

    found = timed({"fast": nn.Identity(), "slow": Slow()}, torch.randn(64, 64))
    assert found["slow"] > 5 * found["fast"] > 0


def test_divergence_is_that_of_the_two_distributions(decoder: Decoder):
    packed = shared_copy(decoder)
    pack(packed, "int4")
    ids = written_by(decoder, 2, 16)
    p, q = (m(ids).double().softmax(-1) for m in (decoder, packed))
    expected = float((p * (p / q).log()).sum(-1).mean())
    assert divergence(decoder, packed, ids) == pytest.approx(expected, rel=1e-3)
    assert divergence(decoder, decoder, ids) == 0.0
    # Which is what coding the model's own text costs more, in expectation.
    more = -(p * q.log()).sum(-1).mean() + (p * p.log()).sum(-1).mean()
    assert expected == pytest.approx(float(more), rel=1e-6)


def test_text_of_the_models_own(decoder: Decoder):
    one, two = written_by(decoder, 4, 20), written_by(decoder, 4, 20)
    assert one.shape == (4, 20) and torch.equal(one, two)
    assert not torch.equal(one, written_by(decoder, 4, 20, seed=1))
    assert written_by(decoder, 1, 500).shape == (1, 32)  # no longer than the context
    # Its own text is likelier to it than ids at random.
    random = torch.randint(0, 96, (4, 20), generator=torch.Generator().manual_seed(3))

    def nats(ids: torch.Tensor) -> float:
        return float(F.cross_entropy(decoder(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()))

    assert nats(one) < nats(random) and nats(one) < math.log(96)


def test_the_default_formats_are_all_of_the_device(decoder: Decoder, monkeypatch: pytest.MonkeyPatch):
    seen: list[Any] = []

    def remember(model: Decoder, formats: Any, rows: Any, **_: Any) -> dict[str, float]:
        seen.extend(formats)
        assert tuple(rows) == (1, 8, 512)
        return dict.fromkeys(formats, 0.5)

    monkeypatch.setattr(packed_choice, "measure", remember)
    choose(decoder)
    assert seen == ["float32", "float16", "int8", "int8-weight-only", "int4"]
