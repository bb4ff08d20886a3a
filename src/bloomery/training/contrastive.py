"""The contrastive objective: which caption of a batch belongs to which picture.

Softmax over both sides (Radford et al., arXiv 2103.00020) or a sigmoid for each pair (Zhai et al., arXiv 2303.15343).
Two pairs with the same caption or the same picture fit each other as well as their own: the softmax leaves such a pair
out of the wrong answers, for the sigmoid it is a right one. This module does not know files or tokenizers. Shapes: B
pairs, T tokens.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.models.clip import Clip
from bloomery.training.batches import BatchObjective, padded
from bloomery.training.loader import ExampleLoader
from bloomery.training.objective import Batch
from bloomery.training.pictures import PictureReader

_LARGEST_SCALE = math.log(100.0)


@dataclass(frozen=True)
class CaptionedPicture:
    """A picture, uint8 (H, W, C), and its caption's ids with the special tokens that the model reads."""

    image: np.ndarray
    input_ids: Sequence[int]


class ContrastiveObjective(BatchObjective[list[CaptionedPicture]]):
    """Pictures and captions, for CLIP or SigLIP. A batch is computed whole: every pair is compared with all others."""

    unit = "pairs"
    divisible = False
    headline = "nats_per_pair"

    def __init__(
        self,
        model: Clip,
        loader: ExampleLoader[CaptionedPicture],
        reader: PictureReader,
        *,
        loss: Literal["softmax", "sigmoid"] = "softmax",
        seed: int,
    ) -> None:
        super().__init__(model, loader, seed=seed)
        if loss == "sigmoid" and model.logit_bias is None:
            raise ConfigError("a sigmoid loss needs a model with a bias", hint="the family siglip has one")
        self.clip, self.reader, self.kind = model, reader, loss
        text = model.config.text_config
        # SigLIP reads a text's vector off the last place, padding included, so all texts have its full length.
        self._width = text.max_position_embeddings if model.text_model.head is not None else 1
        self._pad_id = (text.eos_token_id if model.text_model.head is None else text.pad_token_id) or 0

    def next_batch(self, rows: int) -> Batch:
        """The next pairs; the scale is held below 100 first, as published."""
        with torch.no_grad():
            self.clip.logit_scale.clamp_(max=_LARGEST_SCALE)
        return super().next_batch(rows)

    def held_out(self) -> Iterator[Batch]:
        """Full batches alone where there is one: the loss of a batch grows with its size."""
        for place, batch in enumerate(super().held_out()):
            if not place or batch.rows == self.loader_rows:
                yield batch

    @property
    def loader_rows(self) -> int:
        """Pairs of a full batch."""
        assert isinstance(self.loader, ExampleLoader)
        return self.loader.rows

    def collate(self, material: list[CaptionedPicture], rng: np.random.Generator, *, training: bool) -> Batch:
        """`pixel_values` (B, C, H, W), `input_ids` (B, T) and `same` (B, B), which pairs have a side in common."""
        arrays = self.reader(material, rng, training=training)
        arrays["input_ids"] = padded([pair.input_ids for pair in material], self._pad_id, multiple=self._width)
        captions = _numbered([tuple(pair.input_ids) for pair in material])
        pictures = _numbered([hashlib.sha256(pair.image.tobytes()).digest() for pair in material])
        arrays["same"] = (captions[:, None] == captions) | (pictures[:, None] == pictures)
        return Batch(arrays=arrays, weight=len(material), items=len(material))

    def _similarity(self, arrays: Mapping[str, Tensor]) -> Tensor:
        return self.clip(arrays["pixel_values"], arrays["input_ids"]).float()

    def _nats(self, logits: Tensor, same: Tensor) -> Tensor:
        if self.kind == "sigmoid":
            return -F.logsigmoid(torch.where(same, logits, -logits)).sum()
        own = torch.eye(len(same), dtype=torch.bool, device=same.device)
        logits = logits.masked_fill(same & ~own, -torch.inf)
        labels = torch.arange(len(same), device=same.device)
        by_picture = F.cross_entropy(logits, labels, reduction="sum")
        return (by_picture + F.cross_entropy(logits.t(), labels, reduction="sum")) / 2

    def loss(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Summed over pairs; softmax: nats, the mean of both directions."""
        return self._nats(self._similarity(arrays), arrays["same"])

    def figures(self, arrays: Mapping[str, Tensor]) -> Mapping[str, float]:
        """The loss, and how often the best of the batch is right, from pictures to captions and back."""
        logits, same = self._similarity(arrays), arrays["same"]
        rows = torch.arange(len(same), device=same.device)
        return {
            "nats_per_pair": float(self._nats(logits, same)),
            "caption_recall_in_batch": float(same[rows, logits.argmax(1)].sum()),
            "picture_recall_in_batch": float(same[logits.argmax(0), rows].sum()),
        }


def _numbered(keys: Sequence[object]) -> np.ndarray:
    """(B,) numbers, equal where keys are."""
    known: dict[object, int] = {}
    return np.array([known.setdefault(key, len(known)) for key in keys])
