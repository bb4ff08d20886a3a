"""Image-conditioned next tokens: a caption of a picture, or the answer to a question about it.

The picture's vectors stand first, then the prompt, then what is learnt; loss is on that alone (Liu et al., arXiv
2304.08485). A blind model is trained the same with every picture grey: what it reaches is what the text gives away.
This module does not know files or tokenizers. Shapes: B rows, T tokens, the picture's places included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from bloomery.core.errors import ConfigError, DataError
from bloomery.models.vision_language import VisionLanguage
from bloomery.training.batches import BatchObjective, padded
from bloomery.training.linear_cross_entropy import IGNORED, linear_cross_entropy
from bloomery.training.loader import ExampleLoader
from bloomery.training.objective import Batch
from bloomery.training.pictures import PictureReader


@dataclass(frozen=True)
class PictureText:
    """A picture, uint8 (H, W, C), the ids of a prompt, which may be empty, and of the text that is learnt."""

    image: np.ndarray
    prompt: Sequence[int]
    target: Sequence[int]


class CaptionObjective(BatchObjective[list[PictureText]]):
    """Texts about pictures, for a vision-language model. `blind` shows it none of the pictures."""

    def __init__(
        self,
        model: VisionLanguage,
        loader: ExampleLoader[PictureText],
        reader: PictureReader,
        *,
        seed: int,
        blind: bool = False,
    ) -> None:
        super().__init__(model, loader, seed=seed)
        text = model.config.text_config
        if text.bos_token_id is None or not text.eos_token_id:
            raise ConfigError("the decoder's config should name its first and end tokens", hint="bos_token_id")
        self.seer, self.reader, self.blind = model, reader, blind
        self.end_id = text.eos_token_id[0]
        self.start = [text.bos_token_id, *[model.config.image_token_id] * model.config.num_image_tokens]

    def collate(self, material: list[PictureText], rng: np.random.Generator, *, training: bool) -> Batch:
        """`pixel_values`, one picture a row, `input_ids` and `labels` (B, T): next tokens where the target is, else
        -100. DataError for a row longer than the model's context."""
        arrays = self.reader(material, rng, training=training)
        if self.blind:
            arrays["pixel_values"] = np.zeros_like(arrays["pixel_values"])
        rows = [[*self.start, *one.prompt, *one.target, self.end_id] for one in material]
        longest = max(len(row) for row in rows)
        if longest - 1 > self.seer.context_length:
            raise DataError(
                f"a picture and its text take {longest - 1:,} tokens, the model's context has "
                f"{self.seer.context_length:,}",
                hint="shorter texts, or a larger context",
            )
        arrays["input_ids"] = padded([row[:-1] for row in rows], self.end_id)
        known = [len(self.start) + len(one.prompt) - 1 for one in material]
        arrays["labels"] = padded([[IGNORED] * k + row[k + 1 :] for k, row in zip(known, rows, strict=True)], IGNORED)
        tokens = int((arrays["labels"] != IGNORED).sum())
        return Batch(arrays=arrays, weight=tokens, items=sum(len(row) - 1 for row in rows))

    def _hidden(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """States (N, E) and labels (N,) of the places that are learnt."""
        hidden = self.seer.hidden_states(arrays["input_ids"], self.seer.image_features(arrays["pixel_values"]))
        learnt = arrays["labels"] != IGNORED
        return hidden[learnt], arrays["labels"][learnt]

    def loss(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Summed nats over the texts that are learnt."""
        decoder = self.seer.language_model
        hidden, labels = self._hidden(arrays)
        return linear_cross_entropy(hidden, decoder.output_weight, labels, softcap=decoder.output_softcap)

    def figures(self, arrays: Mapping[str, Tensor]) -> Mapping[str, float]:
        """Nats and accuracy, per token, given the true ones before it."""
        decoder = self.seer.language_model
        hidden, labels = self._hidden(arrays)
        nats = linear_cross_entropy(hidden, decoder.output_weight, labels, softcap=decoder.output_softcap)
        right = (decoder.logits(hidden).argmax(-1) == labels).sum()
        return {"nats_per_token": float(nats), "accuracy": float(right)}
