"""The two-tower model by itself; that it equals the published ones is in tests/golden/test_vision.py."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from bloomery.core.errors import RequestError
from bloomery.models.clip import Clip, load_clip, save_clip
from bloomery.models.clip_config import ClipConfig

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def _model(kind: str, **text: int) -> Clip:
    torch.manual_seed(0)
    tower = {**SIZES, "vocab_size": 40, "max_position_embeddings": 12, "eos_token_id": 39, **text}
    values = {"model_type": kind, "text_config": tower, "vision_config": {**SIZES, "image_size": 16, "patch_size": 4}}
    return Clip(ClipConfig.from_hf(values))


def _pairs(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(3, 39, (count, 9))
    ids[:, 8] = 39
    return torch.randn(count, 3, 16, 16), ids


def test_the_first_loss_is_chance_and_training_lowers_it():
    """Radford et al.: a symmetric cross entropy over the batch; at first all pairs are about as likely."""
    model = _model("clip")
    pixels, ids = _pairs(16)
    assert model.logit_scale.exp().item() == pytest.approx(1 / 0.07, rel=1e-4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(20):
        logits = model(pixels, ids)
        labels = torch.arange(16)
        loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.t(), labels)) / 2
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert losses[0] == pytest.approx(math.log(16), rel=0.02)
    assert losses[-1] < losses[0] / 3


def test_siglip_begins_with_few_pairs_believed():
    """Zhai et al., section 3.2: a scale of 10 and a bias of -10 make the first probabilities small."""
    model = _model("siglip")
    pixels, ids = _pairs(8)
    assert model.logit_scale.item() == pytest.approx(math.log(10)) and model.logit_bias is not None
    with torch.no_grad():
        logits = model(pixels, ids)
    assert logits.max() <= 0.0 and logits.sigmoid().mean() < 0.05


def test_clip_texts_end_where_they_end_and_siglips_at_the_last_place():
    clip, siglip = _model("clip"), _model("siglip")
    ids = torch.tensor([[5, 6, 39, 1, 1], [5, 6, 39, 7, 8]])
    with torch.no_grad():
        first, second = clip.text_features(ids)
        assert torch.equal(first, second)
        first, second = siglip.text_features(ids)
        assert (first - second).abs().max() > 1e-3


def test_the_rule_of_older_files():
    model = _model("clip", eos_token_id=2)
    with torch.no_grad():
        states = model.text_model.hidden_states(torch.tensor([[5, 38, 2, 7]]))
        assert torch.equal(model.text_model(torch.tensor([[5, 38, 2, 7]])), states[:, 1])


def test_a_text_longer_than_the_context():
    with pytest.raises(RequestError, match="13 tokens"):
        _model("clip").text_features(torch.zeros(1, 13, dtype=torch.int64))


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_saved_and_loaded(kind: str, tmp_path: Path):
    model, (pixels, ids) = _model(kind), _pairs(3)
    save_clip(model, tmp_path)
    again = load_clip(tmp_path)
    with torch.no_grad():
        assert (model.eval()(pixels, ids) - again(pixels, ids)).abs().max() < 1e-5
    half = load_clip(tmp_path, dtype=torch.bfloat16)
    assert half.logit_scale.dtype == torch.bfloat16 and half(pixels, ids).dtype == torch.bfloat16
