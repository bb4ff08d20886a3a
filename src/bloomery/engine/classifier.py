"""Classifier: a small classifier, or a decoder with a head, with what it reads: labels or numbers of texts or images.

Encoders and ViT classify through their own classes (`text_encoder`, `image_encoder`). This module does not know where
weights come from (see `loading`) or HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bloomery.core.errors import RequestError
from bloomery.engine.asked import Asked
from bloomery.engine.labelling import Candidate, best_labels, checked_top, label_texts, text_to_label
from bloomery.models.classifiers import ConvImageClassifier, ConvTextClassifier, MeanTextClassifier
from bloomery.models.decoder_classifier import DecoderClassifier
from bloomery.models.image_processor import ImageProcessor, Picture, one_image
from bloomery.tokenizer import Tokenizer

_MAX_TOKENS = 1 << 16


class Classifier(Asked):
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
        self.labels = list(labels) or label_texts(None, self.num_labels)

    @property
    def num_labels(self) -> int:
        """Outputs of the model; one is a number, not a label."""
        return self.model.num_labels if isinstance(self.model, DecoderClassifier) else self.model.config.num_labels

    def what(self) -> str:
        """What this model is."""
        seen = isinstance(self.reader, ImageProcessor)
        if self.num_labels == 1:
            return f"a model that gives {'an image' if seen else 'a text'} a number"
        return f"a classifier of {'images' if seen else 'texts'}"

    def can(self) -> tuple[str, ...]:
        """What it answers: one output is a number."""
        return ("value",) if self.num_labels == 1 else ("classify",)

    def classify(self, example: Picture, *, top: int = 5) -> list[Candidate]:
        """The most probable labels of one text, or of one image (Pillow's, a uint8 array, bytes or a path) for a model
        of images; a text longer than a decoder's context is cut at its end. RequestError for what is no text or an
        empty one, and for a model with a single output, which gives a `value`; DataError for what is no image."""
        if self.num_labels == 1:
            raise self.cannot("classify")
        checked_top(top)
        return best_labels(self._logits(example), self.labels, top)

    def value(self, example: Picture) -> float:
        """The number that a regression head gives one text or image, as it was learnt: nothing is scaled. Otherwise as
        `classify`."""
        if self.num_labels != 1:
            raise self.cannot("value")
        return float(self._logits(example)[0])

    def _logits(self, example: Picture) -> torch.Tensor:
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            if isinstance(self.reader, ImageProcessor):
                return self.model(self.reader(one_image(example)).to(device))[0]
            longest = self.model.decoder.context_length if isinstance(self.model, DecoderClassifier) else _MAX_TOKENS
            ids, _ = self.reader.encode_with_special(text_to_label(example), max_length=longest)
            if not ids:
                raise RequestError("the tokenizer makes nothing of this text", param="text")
            return self.model(torch.tensor([ids], device=device))[0]

    def close(self) -> None:
        """Nothing is held open; here so that every loaded model can be closed alike."""
