"""Rows without padding: there and back, and the encoder's states are those of the padded batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from bloomery.models.encoder import Encoder
from bloomery.models.encoder_config import EncoderConfig
from bloomery.models.inside import capture
from bloomery.models.unpadding import Rows, pays

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "intermediate_size": 48,
    "vocab_size": 40,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}


def _mask(*lengths: int) -> torch.Tensor:
    return (torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]).long()


def _encoder(family: str, head: str = "none") -> Encoder:
    torch.manual_seed(0)
    extra = {"local_attention": 4} if family == "modernbert" else {}
    config = EncoderConfig.from_hf({"model_type": family, **SMALL, **extra})
    return Encoder(replace(config, head=head)).eval()


def test_there_and_back():
    rows = Rows.of(_mask(3, 5, 1))
    assert rows is not None and rows.lengths == (3, 5, 1) and rows.shape == (3, 5)
    assert rows.positions.tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 0]
    x = torch.randn(3, 5, 2)
    packed = rows.pack(x)
    assert packed.shape == (1, 9, 2) and torch.equal(packed[0, 3:8], x[1])
    assert torch.equal(rows.unpack(packed), x * _mask(3, 5, 1)[..., None])


@pytest.mark.parametrize("mask", [[[1, 1], [0, 0]], [[1, 1], [0, 1]], [[1, 0, 1], [1, 1, 1]]])
def test_other_padding_is_not_left_out(mask: list[list[int]]):
    assert Rows.of(torch.tensor(mask)) is None


def test_where_it_pays():
    much, little = Rows.of(_mask(4, 8)), Rows.of(_mask(7, 8))
    assert much is not None and little is not None
    assert pays(much, CPU) and not pays(little, CPU)
    assert not pays(much, torch.device("meta"))


@pytest.mark.parametrize("unpad", [True, None])
@pytest.mark.parametrize("lengths", [(9, 9, 30), (5, 23, 23, 1, 30), (30,), (4, 4)])
@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
@torch.inference_mode()
def test_states_are_those_of_the_padded_batch(family: str, lengths: tuple[int, ...], unpad: bool | None):
    encoder, mask = _encoder(family), _mask(*lengths)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, 40, mask.shape, generator=generator) * mask
    types = torch.randint(0, 2, mask.shape, generator=generator) * mask
    expected = encoder.hidden_states(ids, mask, types)
    found = encoder.hidden_states(ids, mask, types, unpad=unpad)
    # 1e-5: states are of size one, sums in another order.
    assert (found - expected)[mask.bool()].abs().max() < 1e-5
    if unpad:
        assert not found[~mask.bool()].any()


@pytest.mark.parametrize("head", ["sequence", "token"])
@torch.inference_mode()
def test_labels_are_those_of_the_padded_batch(head: str):
    encoder, mask = _encoder("modernbert", head), _mask(4, 17, 30)
    ids = torch.randint(1, 40, mask.shape, generator=torch.Generator().manual_seed(1)) * mask
    expected, found = encoder(ids, mask), encoder(ids, mask, unpad=None)
    real = mask.bool() if head == "token" else slice(None)
    assert (found - expected)[real].abs().max() < 1e-5


def test_gradients_are_those_of_the_padded_batch():
    mask = _mask(4, 17, 30)
    ids = torch.randint(1, 40, mask.shape, generator=torch.Generator().manual_seed(1)) * mask
    gradients = []
    for unpad in (False, True):
        encoder = _encoder("modernbert", "masked").train()
        encoder.logits(encoder.hidden_states(ids, mask, unpad=unpad)[mask.bool()]).square().mean().backward()
        gradients.append({name: p.grad for name, p in encoder.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient is not None
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max() + 1))


@torch.inference_mode()
def test_it_can_be_looked_into():
    encoder, mask = _encoder("modernbert"), _mask(5, 12)
    ids = torch.randint(1, 40, mask.shape, generator=torch.Generator().manual_seed(1)) * mask
    with capture(encoder) as looks:
        encoder.hidden_states(ids, mask, unpad=True)
    for look in looks.values():
        assert look.shape == (1, 4, 17, 17)
        weights = look.weights(0, 17)
        assert (weights.sum(-1) - 1).abs().max() < 1e-5
        assert not weights[:, :5, 5:].any() and not weights[:, 5:, :5].any()
        assert look.max_difference() < 1e-5
