"""Classifier: a small classifier, or a decoder with a head, with what it reads: labels of texts or of images.

Encoders and ViT classify through their own classes (`text_encoder`, `image_encoder`). This module does not know where
weights come from (see `loading`) or HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bloomery.core.errors import RequestError
from bloomery.engine.text_encoder import Candidate
from bloomery.models.classifiers import ConvImageClassifier, ConvTextClassifier, MeanTextClassifier
from bloomery.models.decoder_classifier import DecoderClassifier
from bloomery.models.image_processor import ImageProcessor, Picture
from bloomery.tokenizer import Tokenizer

_MAX_TEXT_CHARACTERS = 10_000_000
_MAX_TOKENS = 1 << 16


class Classifier:
    """See the module. `labels` are the names of its classes, in order."""

    def __init__(
        self,
        model: MeanTextClassifier | ConvTextClassifier | ConvImageClassifier | DecoderClassifier,
        reader: Tokenizer | ImageProcessor,
        *,
        name: str,
        labels: Sequence[str] = (),
    ) -> None:
        self.model = model.eval()
        self.reader = reader
        self.name = name
        count = model.num_labels if isinstance(model, DecoderClassifier) else model.config.num_labels
        self.labels = list(labels) or [f"LABEL_{number}" for number in range(count)]

    def classify(self, example: Picture, *, top: int = 5) -> list[Candidate]:
        """The most probable labels of a text, or of an image (Pillow's, a uint8 array, bytes or a path) for a model of
        images. RequestError for what is no text, DataError for what is no image."""
        if isinstance(top, bool) or not isinstance(top, int) or top < 1:
            raise RequestError(f"top should be a whole number from 1, not {top!r:.40}", param="top")
        scores = self._logits(example).float().log_softmax(-1).cpu()
        best = torch.topk(scores, min(top, len(self.labels)))
        return [
            Candidate(id=i, text=self.labels[i], logprob=value)
            for i, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def _logits(self, example: Picture) -> torch.Tensor:
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            if isinstance(self.reader, ImageProcessor):
                return self.model(self.reader(example).to(device))[0]
            if not isinstance(example, str) or len(example) > _MAX_TEXT_CHARACTERS:
                raise RequestError("a text is a string that is not too long", param="text")
            longest = self.model.decoder.context_length if isinstance(self.model, DecoderClassifier) else _MAX_TOKENS
            ids, _ = self.reader.encode_with_special(example, max_length=longest)
            if not ids:
                raise RequestError("a text is empty", param="text")
            return self.model(torch.tensor([ids], device=device))[0]

    def close(self) -> None:
        """Nothing is held open; here so that every loaded model can be closed alike."""
