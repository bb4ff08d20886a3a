"""Augmentation: pictures changed at random on the way to training, as uint8 arrays.

A crop of random size and shape (Szegedy et al., arXiv 1409.4842), a shift (He et al., arXiv 1512.03385), a mirror
image, and light and contrast. The generator is the caller's: equal generators give equal pictures. This module does not
know files, labels or when it is right to change one (a mirrored letter is another letter). Shapes: H height, W width,
C channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bloomery.core.errors import ConfigError
from bloomery.corpus.picture_file import pillow

_ASPECT = math.log(4 / 3)
_TRIES = 10


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What is done, and how strongly; nothing by default."""

    least_area: float = 1.0
    """A crop covers from this share of the area to all of it, its sides 3 to 4 at most; 1: no crop."""
    shift: int = 0
    """Moved by up to this many pixels each way; what comes in repeats the edge."""
    mirror: bool = False
    """Left and right exchanged half of the time."""
    light: float = 0.0
    """Brightness and contrast are multiplied by 1 - light to 1 + light each."""

    def __post_init__(self) -> None:
        if not 0 < self.least_area <= 1 or self.shift < 0 or not 0 <= self.light < 1:
            raise ConfigError(
                '"least_area" should be above 0 and at most 1, "shift" not negative, "light" from 0 to below 1'
            )

    @property
    def changes(self) -> bool:
        """Whether anything is done at all."""
        return self.least_area < 1 or self.shift > 0 or self.mirror or self.light > 0


class Augment:
    """Calling it with a picture, uint8 (H, W, C), and a generator gives a picture of the same shape."""

    def __init__(self, config: AugmentConfig) -> None:
        self.config = config

    def __call__(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The picture, changed."""
        config = self.config
        if config.least_area < 1:
            picture = _cropped(picture, rng, config.least_area)
        if config.shift:
            picture = _shifted(picture, rng, config.shift)
        if config.mirror and rng.random() < 0.5:
            picture = picture[:, ::-1]
        if config.light:
            bright, contrast = rng.uniform(1 - config.light, 1 + config.light, 2)
            values = picture.astype(np.float32) * bright
            middle = values.mean()
            picture = np.clip((values - middle) * contrast + middle + 0.5, 0, 255).astype(np.uint8)
        return picture


def _cropped(picture: np.ndarray, rng: np.random.Generator, least: float) -> np.ndarray:
    """A crop, scaled back to the whole size (bilinear). The whole picture where no crop of that shape fits."""
    height, width = picture.shape[:2]
    for _ in range(_TRIES):
        area = height * width * rng.uniform(least, 1)
        aspect = math.exp(rng.uniform(-_ASPECT, _ASPECT))
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < high <= height:
            left, top = int(rng.integers(0, width - wide + 1)), int(rng.integers(0, height - high + 1))
            part = pillow().fromarray(np.ascontiguousarray(picture[top : top + high, left : left + wide]))
            return np.asarray(part.resize((width, height), pillow().Resampling.BILINEAR))
    return picture


def _shifted(picture: np.ndarray, rng: np.random.Generator, most: int) -> np.ndarray:
    down, right = (int(n) for n in rng.integers(-most, most + 1, 2))
    rows = np.clip(np.arange(picture.shape[0]) - down, 0, picture.shape[0] - 1)
    columns = np.clip(np.arange(picture.shape[1]) - right, 0, picture.shape[1] - 1)
    return picture[rows[:, None], columns]
