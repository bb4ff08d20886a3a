"""Pictures as numbers: against the image processor, changed in training alone, and mistakes."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import ConfigError
from bloomery.models.image_processor import ImageProcessor
from bloomery.training.pictures import LabelledPicture, PictureReader

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


def _examples(count: int = 3, size: int = 8) -> list[LabelledPicture]:
    rng = np.random.default_rng(0)
    return [LabelledPicture(rng.integers(0, 256, (size, size, 3), dtype=np.uint8), 0) for _ in range(count)]


def test_the_same_numbers_as_the_image_processor():
    examples = _examples()
    found = PictureReader(mean=MEAN, std=STD)(examples, np.random.default_rng(0), training=True)["pixel_values"]
    pytest.importorskip("PIL")
    processor = ImageProcessor(do_resize=False, image_mean=MEAN, image_std=STD)
    expected = processor([example.image for example in examples]).numpy()
    assert found.dtype == np.float32 and found.shape == (3, 3, 8, 8)
    assert np.abs(found - expected).max() < 1e-6


def test_changes_belong_to_training():
    def flip(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return picture[:, ::-1]

    examples = _examples()
    reader = PictureReader(change=flip)
    still = reader(examples, np.random.default_rng(0), training=False)["pixel_values"]
    moved = reader(examples, np.random.default_rng(0), training=True)["pixel_values"]
    assert np.array_equal(moved, still[..., ::-1]) and moved.flags["C_CONTIGUOUS"]


def test_mistakes():
    reader, rng = PictureReader(), np.random.default_rng(0)
    with pytest.raises(ConfigError, match="one size"):
        reader([*_examples(1, 8), *_examples(1, 9)], rng, training=False)
    with pytest.raises(ConfigError, match="uint8"):
        reader([LabelledPicture(np.zeros((4, 4, 3), dtype=np.float32), 0)], rng, training=False)
