"""Contrastive losses against transformers' CLIP and the published sigmoid, and equal captions or pictures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.models.clip import Clip, save_clip
from bloomery.models.clip_config import ClipConfig, TextTowerConfig
from bloomery.models.vision_config import VisionConfig
from bloomery.training.contrastive import CaptionedPicture, ContrastiveObjective
from bloomery.training.loader import ExampleLoader
from bloomery.training.pictures import PictureReader

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


def clip(kind: str = "clip") -> Clip:
    torch.manual_seed(0)
    joined = kind == "clip"
    vision = "clip_vision_model" if joined else "siglip_vision_model"
    ends = {"eos_token_id": 1, "bos_token_id": 0} if joined else {"eos_token_id": 1, "projection_size": 32}
    return Clip(
        ClipConfig(
            model_type=kind,
            text_config=TextTowerConfig(**SIZES, vocab_size=50, max_position_embeddings=12, pad_token_id=1, **ends),
            vision_config=VisionConfig(**SIZES, model_type=vision, image_size=16, patch_size=8),
            projection_dim=32,
        )
    )


def pairs(count: int, seed: int = 0) -> list[CaptionedPicture]:
    rng = np.random.default_rng(seed)
    return [
        CaptionedPicture(
            rng.integers(0, 256, (16, 16, 3), dtype=np.uint8), [0, *rng.integers(2, 50, 1 + n % 5).tolist(), 1]
        )
        for n in range(count)
    ]


def objective(examples: list[CaptionedPicture], kind: str = "clip", **options) -> ContrastiveObjective:
    loader = ExampleLoader(examples, examples, rows=len(examples), seed=0)
    return ContrastiveObjective(clip(kind), loader, PictureReader(), seed=0, **options)


def _arrays(made: ContrastiveObjective, examples: list[CaptionedPicture]) -> dict[str, torch.Tensor]:
    batch = made.collate(examples, np.random.default_rng(0), training=False)
    return {name: torch.from_numpy(array) for name, array in batch.arrays.items()}


def test_softmax_equals_transformers(tmp_path):
    from transformers import CLIPModel

    examples = pairs(6)
    made = objective(examples)
    save_clip(made.clip, tmp_path)
    theirs = CLIPModel.from_pretrained(tmp_path).eval()
    arrays = _arrays(made, examples)
    with torch.no_grad():
        expected = theirs(
            input_ids=arrays["input_ids"], pixel_values=arrays["pixel_values"], return_loss=True
        ).loss.item()
        assert float(made.loss(arrays)) / 6 == pytest.approx(expected, abs=1e-5)


def test_sigmoid_equals_transformers(tmp_path):
    from transformers import SiglipModel

    examples = pairs(6)
    made = objective(examples, "siglip", loss="sigmoid")
    save_clip(made.clip, tmp_path)
    theirs = SiglipModel.from_pretrained(tmp_path).eval()
    arrays = _arrays(made, examples)
    assert arrays["input_ids"].shape == (6, 12)  # padded to the full length, as SigLIP reads texts
    with torch.no_grad():
        expected = theirs(
            input_ids=arrays["input_ids"], pixel_values=arrays["pixel_values"], return_loss=True
        ).loss.item()
        assert float(made.loss(arrays)) / 6 == pytest.approx(expected, abs=1e-5)


def test_the_loss_begins_at_the_logarithm_of_the_batch():
    losses = []
    for seed in range(4):
        examples = pairs(64, seed)
        made = objective(examples)
        with torch.no_grad():
            made.clip.logit_scale.fill_(0.0)  # at scale one nothing has been said yet
            losses.append(float(made.loss(_arrays(made, examples))) / 64)
    assert sum(losses) / 4 == pytest.approx(math.log(64), rel=0.02)


def test_equal_captions_and_pictures_are_no_wrong_answers():
    first, second, third, fourth = pairs(4)
    same_caption = CaptionedPicture(second.image, first.input_ids)
    same_picture = CaptionedPicture(third.image, fourth.input_ids)
    examples = [first, same_caption, third, same_picture]
    made = objective(examples)
    arrays = _arrays(made, examples)
    same = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]).bool()
    assert torch.equal(arrays["same"], same)
    with torch.no_grad():
        logits = made.clip(arrays["pixel_values"], arrays["input_ids"])
        by_hand = torch.zeros(())
        for table in (logits, logits.t()):
            for row in range(4):
                wrong = [table[row, other] for other in range(4) if not same[row, other]]
                by_hand -= table[row, row] - torch.stack([table[row, row], *wrong]).logsumexp(0)
        assert float(made.loss(arrays)) == pytest.approx(float(by_hand) / 2, abs=1e-4)
        assert made.figures(arrays)["nats_per_pair"] == pytest.approx(float(by_hand) / 2, abs=1e-4)


def test_it_learns_pairs_and_the_scale_stays_below_a_hundred():
    examples = pairs(16)
    made = objective(examples)
    optimizer = torch.optim.AdamW(made.model.parameters(), lr=1e-3)
    for _ in range(60):
        batch = made.next_batch(16)
        loss = made.loss({n: torch.from_numpy(a) for n, a in batch.arrays.items()}) / 16
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    result = made.validate(None, torch.device("cpu"), "float32")
    assert result.values["caption_recall_in_batch"] > 0.9 and result.value < 0.5
    with torch.no_grad():
        made.clip.logit_scale.fill_(10.0)
    made.next_batch(16)
    assert made.clip.logit_scale.exp().item() == pytest.approx(100, rel=1e-5)


def test_a_last_batch_that_is_not_full_is_left_out():
    examples = pairs(10)
    loader = ExampleLoader(examples, examples, rows=4, seed=0)
    made = ContrastiveObjective(clip(), loader, PictureReader(), seed=0)
    assert [batch.rows for batch in made.held_out()] == [4, 4]


def test_sigmoid_needs_a_bias():
    with pytest.raises(ConfigError, match="bias"):
        objective(pairs(4), loss="sigmoid")
