"""Pictures for training: uint8 arrays in memory, changed at random on the way, as the numbers that a model reads.

All pictures of a set have the size that the model reads; making them so is the caller's, once. This module does not
know files, or which changes there are. Shapes: B pictures, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bloomery.core.errors import ConfigError

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class Pictured(Protocol):
    """Anything with a picture: uint8 (H, W, C)."""

    @property
    def image(self) -> np.ndarray: ...


@dataclass(frozen=True)
class LabelledPicture:
    """A picture, uint8 (H, W, C), and a class number, or a value."""

    image: np.ndarray
    label: float


class PictureReader:
    """Pictures as `pixel_values` (B, C, H, W) float32: (value / 255 - mean) / std, after `change` in training."""

    def __init__(
        self,
        *,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        change: Change | None = None,
    ) -> None:
        self.mean, self.std = np.asarray(mean, dtype=np.float32), np.asarray(std, dtype=np.float32)
        self.change = change

    def __call__(
        self, examples: Sequence[Pictured], rng: np.random.Generator, *, training: bool
    ) -> dict[str, np.ndarray]:
        """The pictures of a batch. ConfigError if they differ in size, or are not uint8."""
        pictures = [example.image for example in examples]
        if training and self.change is not None:
            pictures = [self.change(picture, rng) for picture in pictures]
        shapes = {(picture.shape, str(picture.dtype)) for picture in pictures}
        if len(shapes) != 1 or pictures[0].ndim != 3 or pictures[0].dtype != np.uint8:
            found = ", ".join(f"{kind} {shape}" for shape, kind in sorted(shapes)[:3])
            raise ConfigError(f"pictures of a batch should be uint8 (H, W, C) of one size, not {found}")
        numbers = (np.stack(pictures).astype(np.float32) / 255 - self.mean) / self.std
        return {"pixel_values": np.ascontiguousarray(numbers.transpose(0, 3, 1, 2))}
