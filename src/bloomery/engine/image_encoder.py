"""ImageEncoder: an image encoder with its image processor: vectors of images, labels given.

This module does not know where weights come from (see `loading`), texts or HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bloomery.core.errors import RequestError
from bloomery.core.run import Meter
from bloomery.engine.gathering import Gathering, GatheringStats
from bloomery.engine.metering import LazyBench, Phase
from bloomery.engine.text_encoder import Candidate
from bloomery.models.image_processor import ImageProcessor, Picture, listed
from bloomery.models.vision import VisionEncoder

_STEP_IMAGES = 64
"""Images of one step, of all calls together; a single call's batch may have more."""


class ImageEncoder:
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
        if self.encoder.config.head == "classes":
            raise RequestError(f"{self.name} gives labels, not vectors", hint="use classify, or hidden_states")
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
        """The most probable labels of one image. RequestError for a model that has none."""
        config = self.encoder.config
        if config.head != "classes":
            raise RequestError(f"{self.name} does not classify images", hint="load an image classifier")
        if isinstance(top, bool) or not isinstance(top, int) or top < 1:
            raise RequestError(f"top should be a whole number from 1, not {top!r:.40}", param="top")
        pixels = self.processor(image)
        scores = self._together.ask(pixels, len(pixels), self.phase())[0].log_softmax(-1)
        best = torch.topk(scores, min(top, config.num_labels))
        names = config.id2label or {}
        return [
            Candidate(id=n, text=str(names.get(str(n), f"LABEL_{n}")), logprob=value)
            for n, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def close(self) -> None:
        """Close the energy meter, if it was opened."""
        self._bench.close()
