"""Image-conditioned next tokens: the loss against transformers' LLaVA, and a blind twin that sees nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bloomery.core.errors import ConfigError, DataError
from bloomery.models import ModelConfig
from bloomery.models.vision_config import VisionConfig
from bloomery.models.vision_language import VisionLanguage, save_vision_language
from bloomery.models.vision_language_config import VisionLanguageConfig
from bloomery.training.captions import CaptionObjective, PictureText
from bloomery.training.loader import ExampleLoader
from bloomery.training.pictures import PictureReader

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def _model(context: int = 32, **changes) -> VisionLanguage:
    torch.manual_seed(0)
    text = ModelConfig(
        model_type="llama",
        vocab_size=60,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=context,
        **{"bos_token_id": 1, "eos_token_id": (2,), **changes},
        **SIZES,
    )
    vision = VisionConfig(**SIZES, model_type="clip_vision_model", image_size=16, patch_size=8)
    return VisionLanguage(VisionLanguageConfig(text_config=text, vision_config=vision, image_token_id=59))


def _examples() -> list[PictureText]:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    return [
        PictureText(pictures[0], [], [5, 6, 7]),
        PictureText(pictures[1], [8, 9], [10]),
        PictureText(pictures[2], [], [4]),
    ]


def _objective(model: VisionLanguage, **options) -> CaptionObjective:
    loader = ExampleLoader(_examples(), [], rows=3, seed=0)
    return CaptionObjective(model, loader, PictureReader(), seed=0, **options)


def test_rows_and_labels():
    batch = _objective(_model()).collate(_examples(), np.random.default_rng(0), training=False)
    ids, labels = batch.arrays["input_ids"], batch.arrays["labels"]
    assert ids[0].tolist()[:8] == [1, 59, 59, 59, 59, 5, 6, 7]
    assert labels[0].tolist()[:8] == [-100, -100, -100, -100, 5, 6, 7, 2]
    assert ids[1].tolist()[:8] == [1, 59, 59, 59, 59, 8, 9, 10]
    assert labels[1].tolist()[:8] == [-100] * 6 + [10, 2]
    assert batch.weight == 4 + 2 + 2


def test_loss_equals_transformers(tmp_path):
    from transformers import LlavaForConditionalGeneration

    model = _model()
    save_vision_language(model, tmp_path)
    theirs = LlavaForConditionalGeneration.from_pretrained(tmp_path).eval()
    made = _objective(model.eval())
    batch = made.collate(_examples(), np.random.default_rng(0), training=False)
    arrays = {name: torch.from_numpy(array) for name, array in batch.arrays.items()}
    with torch.no_grad():
        logits = theirs(input_ids=arrays["input_ids"], pixel_values=arrays["pixel_values"]).logits
        kept = arrays["labels"] != -100
        expected = torch.nn.functional.cross_entropy(logits[kept], arrays["labels"][kept], reduction="sum")
        assert float(made.loss(arrays)) == pytest.approx(float(expected), abs=1e-4)
        assert made.figures(arrays)["nats_per_token"] == pytest.approx(float(expected), abs=1e-4)


def test_a_blind_one_cannot_tell_pictures_apart():
    made = _objective(_model(), blind=True)
    batch = made.collate(_examples(), np.random.default_rng(0), training=True)
    assert not batch.arrays["pixel_values"].any()


def test_it_learns_what_a_picture_says_and_a_blind_one_does_not():
    losses = {}
    for blind in (False, True):
        made = _objective(_model(), blind=blind)
        optimizer = torch.optim.AdamW(made.model.parameters(), lr=3e-3)
        for _ in range(120):
            batch = made.next_batch(3)
            loss = made.loss({n: torch.from_numpy(a) for n, a in batch.arrays.items()}) / batch.weight
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses[blind] = loss.item()
    # Of two captions without a prompt, a blind one learns the odds at best: ln 2 in 2 of 8 labels, .17 a label.
    assert losses[False] < 0.05 and losses[True] > 0.15


def test_mistakes():
    with pytest.raises(DataError, match="context"):
        _objective(_model(context=6)).next_batch(3)
    with pytest.raises(ConfigError, match="first and end"):
        _objective(_model(bos_token_id=None))
