"""ImageTextModel: CLIP or SigLIP with its tokenizer and image processor: vectors of images and texts, labels by name.

Zero-shot classification with an ensemble of prompts: a class is the mean direction of its name in several sentences
(Radford et al., arXiv 2103.00020, section 3.1.4). This module does not know where weights come from (see `loading`),
indexes or HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bloomery.core.errors import RequestError
from bloomery.core.run import Meter
from bloomery.engine.asked import Asked, one_text
from bloomery.engine.gathering import Gathering, GatheringStats
from bloomery.engine.labelling import Candidate, checked_top
from bloomery.engine.metering import LazyBench, Phase
from bloomery.models.clip import Clip
from bloomery.models.clip_config import LEGACY_EOS, ClipConfig
from bloomery.models.image_processor import ImageProcessor, Picture, listed, one_image
from bloomery.tokenizer import Tokenizer

TEMPLATES = ("a photo of a {}.",)
_MAX_TEXT_CHARACTERS = 1_000_000
_STEP = 64
"""Images, or texts, of one step, of all calls together; a single call's batch may have more."""


def text_batch(tokenizer: Tokenizer, config: ClipConfig, texts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
    """ids (N, T) of texts as the model was trained to read them, and their mask (N, T), None if padding is read too.

    Texts longer than the context are cut at their end. CLIP's end with the end token, whatever the tokenizer adds;
    SigLIP's are padded to the whole context, and the padding is seen. RequestError for what is not text.
    """
    text_config, context = config.text_config, config.text_config.max_position_embeddings
    end = text_config.eos_token_id
    rows: list[list[int]] = []
    for text in texts:
        checked = one_text(text, param="texts", most=_MAX_TEXT_CHARACTERS)
        ids, _ = tokenizer.encode_with_special(checked, max_length=context)
        if config.model_type == "clip" and end is not None and end != LEGACY_EOS and end not in ids:
            ids = [*ids[: context - 1], end]
        if odd := [i for i in ids if i >= text_config.vocab_size]:
            raise RequestError(f"token id {odd[0]} is outside the model's vocabulary", param="texts")
        rows.append(ids)
    if not rows:
        raise RequestError("there are no texts", param="texts")
    padding = 0  # never the highest id of a text, which older models of CLIP take for its end
    if config.model_type == "siglip":
        known = tokenizer.pad_id if tokenizer.pad_id is not None else text_config.pad_token_id
        padding = padding if known is None else known
    length = context if config.model_type == "siglip" else max(1, *(len(row) for row in rows))
    ids = torch.full((len(rows), length), padding, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row, dtype=torch.int64)
        mask[number, : len(row)] = 1
    return ids, mask if config.model_type == "clip" else None


class ImageTextModel(Asked):
    """See the module. `name` is what a server calls it."""

    def __init__(
        self, model: Clip, tokenizer: Tokenizer, processor: ImageProcessor, *, name: str, meter: Meter | None = None
    ) -> None:
        """`meter` None opens the machine's own with the first image or text."""
        self._bench = LazyBench(meter)
        self._images: Gathering[Tensor, np.ndarray] = Gathering(self._bench, self._image_vectors, capacity=_STEP)
        self._texts: Gathering[list[str], np.ndarray] = Gathering(self._bench, self._text_vectors, capacity=_STEP)
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.processor = processor
        self.name = name

    def what(self) -> str:
        """What this model is."""
        return "an encoder of images and texts"

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def context_length(self) -> int:
        """Tokens that the model can read at once, special ones included."""
        return self.model.context_length

    def phase(self) -> Phase:
        """A phase of work on this model: what it says at its end are its seconds and joules."""
        return Phase(self._bench())

    def stats(self) -> tuple[GatheringStats, GatheringStats]:
        """What was computed so far of images and of texts, one by one; calls at the same time share steps."""
        return self._images.stats(), self._texts.stats()

    def embed_images(
        self, images: Picture | Sequence[Picture], *, batch_size: int = 32, phase: Phase | None = None
    ) -> np.ndarray:
        """Vectors of length one, float32 (N, P), of images in their order; one image gives (1, P).

        Images are Pillow's, uint8 arrays (height, width, 3), the bytes of a file, or paths; seconds and joules are
        added to `phase`. DataError for what is none.
        """
        rows, found, phase = listed(images), [self._nothing()], phase or self.phase()
        for start in _starts(rows, batch_size):
            pixels = self.processor(rows[start : start + batch_size])
            found.append(self._images.ask(pixels, len(pixels), phase))
        return np.concatenate(found)

    def embed_texts(
        self, texts: str | Sequence[str], *, batch_size: int = 32, phase: Phase | None = None
    ) -> np.ndarray:
        """Vectors of length one, float32 (N, P), of texts in their order; one string gives (1, P)."""
        rows = [texts] if isinstance(texts, str) else list(texts)
        found, phase = [self._nothing()], phase or self.phase()
        for start in _starts(rows, batch_size):
            part = rows[start : start + batch_size]
            found.append(self._texts.ask(part, len(part), phase))
        return np.concatenate(found)

    def class_vectors(self, class_names: Sequence[str], templates: Sequence[str] = TEMPLATES) -> np.ndarray:
        """A vector of length one for each class, float32 (C, P): the mean direction of the templates with its name in
        place of "{}". RequestError for a template without a place, or no classes."""
        if isinstance(class_names, str) or not class_names:
            raise RequestError("class_names should be a list of one name or more", param="class_names")
        if isinstance(templates, str) or not templates or not all("{}" in template for template in templates):
            raise RequestError('templates should be a list of texts that have a "{}"', param="templates")
        texts = [template.replace("{}", name) for name in class_names for template in templates]
        vectors = self.embed_texts(texts).reshape(len(class_names), len(templates), -1).mean(axis=1)
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    def zero_shot(
        self,
        images: Picture | Sequence[Picture],
        class_names: Sequence[str],
        templates: Sequence[str] = TEMPLATES,
        *,
        batch_size: int = 32,
    ) -> np.ndarray:
        """Probabilities float32 (N, C) of each class for each image: over the classes for CLIP; each by itself, not
        summing to one, for SigLIP. Errors as `embed_images`' and `class_vectors`'."""
        classes = self.class_vectors(class_names, templates)
        return np.exp(self._logprobs(self.embed_images(images, batch_size=batch_size), classes))

    def classify(
        self, image: Picture, class_names: Sequence[str], templates: Sequence[str] = TEMPLATES, *, top: int = 5
    ) -> list[Candidate]:
        """The most probable classes of one image; see `zero_shot`, which takes several."""
        checked_top(top)
        scores = self._logprobs(self.embed_images(one_image(image)), self.class_vectors(class_names, templates))[0]
        best = [int(n) for n in np.argsort(-scores, kind="stable")[:top]]
        return [Candidate(id=n, text=class_names[n], logprob=float(scores[n])) for n in best]

    def _logprobs(self, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            model = self.model
            scale = model.logit_scale.float().exp().cpu()
            logits = torch.from_numpy(images) @ torch.from_numpy(classes).t() * scale
            if model.logit_bias is None:
                return logits.log_softmax(-1).numpy()
            return torch.nn.functional.logsigmoid(logits + model.logit_bias.float().cpu()).numpy()

    def _nothing(self) -> np.ndarray:
        return np.zeros((0, self.model.config.output_size), dtype=np.float32)

    @torch.inference_mode()
    def _image_vectors(self, asked: Sequence[Tensor]) -> list[np.ndarray]:
        """The vectors of several calls' images, in one forward."""
        features = self.model.image_features(torch.cat(list(asked)).to(self.device))
        return _parts(features, [len(pixels) for pixels in asked])

    @torch.inference_mode()
    def _text_vectors(self, asked: Sequence[list[str]]) -> list[np.ndarray]:
        """The vectors of several calls' texts, in one forward."""
        ids, mask = text_batch(self.tokenizer, self.model.config, [text for texts in asked for text in texts])
        features = self.model.text_features(ids.to(self.device), None if mask is None else mask.to(self.device))
        return _parts(features, [len(texts) for texts in asked])

    def close(self) -> None:
        """Close the energy meter, if it was opened."""
        self._bench.close()


def _parts(features: Tensor, sizes: Sequence[int]) -> list[np.ndarray]:
    vectors = torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
    return np.split(vectors, np.cumsum(sizes)[:-1])


def _starts(rows: Sequence[object], batch_size: int) -> range:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise RequestError(f"batch_size should be a whole number from 1, not {batch_size!r:.40}", param="batch_size")
    return range(0, len(rows), batch_size)
