"""ImageEncoder: an image encoder with its image processor: vectors of images, labels or numbers given.

This module does not know where weights come from (see `loading`), texts or HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bloomery.core.errors import RequestError
from bloomery.core.run import Meter
from bloomery.engine.asked import Asked
from bloomery.engine.gathering import Gathering, GatheringStats
from bloomery.engine.labelling import Candidate, best_labels, checked_top, label_texts
from bloomery.engine.metering import LazyBench, Phase
from bloomery.models.image_processor import ImageProcessor, Picture, listed, one_image
from bloomery.models.vision import VisionEncoder

_STEP_IMAGES = 64
"""Images of one step, of all calls together; a single call's batch may have more."""
_HEADS = {
    "vectors": ("an encoder of images", "embed"),
    "labels": ("a classifier of images", "classify"),
    "number": ("a model that gives an image a number", "value"),
}
"""What an image encoder is by its head, and what it answers."""


class ImageEncoder(Asked):
    """See the module. `name` is what a server calls it."""

    def __init__(
        self, encoder: VisionEncoder, processor: ImageProcessor, *, name: str, meter: Meter | None = None
    ) -> None:
        """`meter` None opens the machine's own with the first image."""
        self._bench = LazyBench(meter)
        self._together: Gathering[Tensor, Tensor] = Gathering(self._bench, self._computed, capacity=_STEP_IMAGES)
        self.encoder = encoder.eval()
        self.processor = processor
        self.name = name

    @property
    def _head(self) -> str:
        """ "labels", "number" (one output, which transformers reads as a regression's) or "vectors"."""
        config = self.encoder.config
        if config.head != "classes":
            return "vectors"
        return "number" if config.num_labels == 1 else "labels"

    def what(self) -> str:
        """What this model is, by its head."""
        return _HEADS[self._head][0]

    def can(self) -> tuple[str, ...]:
        """What it answers, by its head."""
        return (_HEADS[self._head][1], "hidden_states")

    def _require(self, method: str) -> None:
        if method not in self.can():
            raise self.cannot(method)

    @property
    def device(self) -> torch.device:
        return next(self.encoder.parameters()).device

    def hidden_states(self, images: Picture | Sequence[Picture]) -> Tensor:
        """(B, T, E) float32 on the CPU: a vector for each patch, after that of the class token where there is one."""
        with torch.inference_mode():
            return self.encoder.hidden_states(self.processor(images).to(self.device)).float().cpu().clone()

    def phase(self) -> Phase:
        """A phase of work on this model: what it says at its end are its seconds and joules."""
        return Phase(self._bench())

    def stats(self) -> GatheringStats:
        """What was computed so far; calls at the same time share steps."""
        return self._together.stats()

    def embed(
        self, images: Picture | Sequence[Picture], *, batch_size: int = 32, phase: Phase | None = None
    ) -> np.ndarray:
        """Vectors float32 (N, E) of images in their order, as the model's own head pools them; one image gives (1, E).

        Seconds and joules are added to `phase`. RequestError for a classifier, which pools nothing; DataError for what
        is no image.
        """
        self._require("embed")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise RequestError(f"batch_size should be from 1, not {batch_size!r:.40}", param="batch_size")
        rows, phase = listed(images), phase or self.phase()
        found = [np.zeros((0, self.encoder.output_size), dtype=np.float32)]
        for start in range(0, len(rows), batch_size):
            pixels = self.processor(rows[start : start + batch_size])
            found.append(self._together.ask(pixels, len(pixels), phase).numpy())
        return np.concatenate(found)

    @torch.inference_mode()
    def _computed(self, asked: Sequence[Tensor]) -> list[Tensor]:
        """What the model makes of several calls' images, in one forward; float32 on the CPU."""
        found = self.encoder(torch.cat(list(asked)).to(self.device)).float().cpu()
        return list(found.split([len(pixels) for pixels in asked]))

    def classify(self, image: Picture, *, top: int = 5) -> list[Candidate]:
        """The most probable labels of one image. RequestError for a model that gives no labels (one with a single
        output gives a `value`), and for several images."""
        self._require("classify")
        checked_top(top)
        config = self.encoder.config
        return best_labels(self._logits(image), label_texts(config.id2label, config.num_labels), top)

    def value(self, image: Picture) -> float:
        """The number that a regression head gives one image, as it was learnt: nothing is scaled. Otherwise as
        `classify`."""
        self._require("value")
        return float(self._logits(image)[0])

    def _logits(self, image: Picture) -> Tensor:
        """(C,) of one image."""
        pixels = self.processor(one_image(image))
        return self._together.ask(pixels, len(pixels), self.phase())[0]

    def close(self) -> None:
        """Close the energy meter, if it was opened."""
        self._bench.close()
