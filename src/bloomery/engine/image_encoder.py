"""ImageEncoder: an image encoder with its image processor: vectors of images, labels given.

This module does not know where weights come from (see `loading`), texts or HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bloomery.core.errors import RequestError
from bloomery.engine.text_encoder import Candidate
from bloomery.models.image_processor import ImageProcessor, Picture, listed
from bloomery.models.vision import VisionEncoder


class ImageEncoder:
    """See the module. `name` is what a server calls it."""

    def __init__(self, encoder: VisionEncoder, processor: ImageProcessor, *, name: str) -> None:
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

    def embed(self, images: Picture | Sequence[Picture], *, batch_size: int = 32) -> np.ndarray:
        """Vectors float32 (N, E) of images in their order, as the model's own head pools them; one image gives (1, E).

        RequestError for a classifier, which pools nothing; DataError for what is no image.
        """
        if self.encoder.config.head == "classes":
            raise RequestError(f"{self.name} gives labels, not vectors", hint="use classify, or hidden_states")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise RequestError(f"batch_size should be from 1, not {batch_size!r:.40}", param="batch_size")
        rows = listed(images)
        found = [np.zeros((0, self.encoder.output_size), dtype=np.float32)]
        for start in range(0, len(rows), batch_size):
            with torch.inference_mode():
                pixels = self.processor(rows[start : start + batch_size]).to(self.device)
                found.append(self.encoder(pixels).float().cpu().numpy())
        return np.concatenate(found)

    def classify(self, image: Picture, *, top: int = 5) -> list[Candidate]:
        """The most probable labels of one image. RequestError for a model that has none."""
        config = self.encoder.config
        if config.head != "classes":
            raise RequestError(f"{self.name} does not classify images", hint="load an image classifier")
        if isinstance(top, bool) or not isinstance(top, int) or top < 1:
            raise RequestError(f"top should be a whole number from 1, not {top!r:.40}", param="top")
        with torch.inference_mode():
            scores = self.encoder(self.processor(image).to(self.device))[0].float().log_softmax(-1).cpu()
        best = torch.topk(scores, min(top, config.num_labels))
        names = config.id2label or {}
        return [
            Candidate(id=n, text=str(names.get(str(n), f"LABEL_{n}")), logprob=value)
            for n, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def close(self) -> None:
        """Nothing is held open; here so that every loaded model can be closed alike."""
