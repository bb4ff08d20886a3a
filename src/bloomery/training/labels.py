"""Labels of texts, of tokens and of images: classification, regression and token classification heads.

Any model whose forward gives (B, C) logits of texts (`input_ids`, `attention_mask`) or images (`pixel_values`) can be
trained: encoders with a head, a decoder read at its last token, means of embeddings, convolutions. This module does not
know where labels come from. Shapes: B rows, T tokens, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.models.encoder import Encoder
from bloomery.training.batches import BatchObjective, mask_of, padded
from bloomery.training.linear_cross_entropy import IGNORED
from bloomery.training.loader import ExampleLoader
from bloomery.training.objective import Batch

E = TypeVar("E")
X = TypeVar("X", contravariant=True)
_COUNTS = ("right", "said", "are")


@dataclass(frozen=True)
class LabelledText:
    """Ids with their special tokens, and a class number, or a value."""

    input_ids: Sequence[int]
    label: float


@dataclass(frozen=True)
class TaggedText:
    """Ids with their special tokens, and a class number for each, -100 where none counts."""

    input_ids: Sequence[int]
    label: Sequence[int]


class Reader(Protocol[X]):
    """How examples become what a model reads."""

    def __call__(self, examples: Sequence[X], rng: np.random.Generator, *, training: bool) -> dict[str, np.ndarray]: ...


class TextReader:
    """Texts as `input_ids` and `attention_mask`, both (B, T)."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(
        self, examples: Sequence[LabelledText | TaggedText], rng: np.random.Generator, *, training: bool
    ) -> dict[str, np.ndarray]:
        """Padded at the end."""
        rows = [example.input_ids for example in examples]
        ids = padded(rows, self.pad_id)
        return {"input_ids": ids, "attention_mask": mask_of(rows, ids.shape[1])}


class _Labels(BatchObjective[list[E]], Generic[E]):
    """Examples with labels, read by `reader`."""

    unit = "ex"
    label_dtype: type[np.generic] = np.int64

    def __init__(self, model: nn.Module, loader: ExampleLoader[E], reader: Reader[E], *, seed: int) -> None:
        super().__init__(model, loader, seed=seed)
        self.reader = reader

    def collate(self, material: list[E], rng: np.random.Generator, *, training: bool) -> Batch:
        """The reader's arrays and `labels` (B,), of the objective's dtype."""
        arrays = self.reader(material, rng, training=training)
        labels = np.array([example.label for example in material], dtype=self.label_dtype)  # type: ignore[attr-defined]
        return Batch(arrays={**arrays, "labels": labels}, weight=len(labels), items=len(labels))

    def answers(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """What the model says, in float32."""
        inputs: dict[str, Any] = {name: array for name, array in arrays.items() if name != "labels"}
        if isinstance(self.model, Encoder):
            inputs["unpad"] = None  # texts of a batch differ in length
        return self.model(**inputs).float()


class ClassificationObjective(_Labels[E]):
    """One class for each example: cross-entropy.

    The best validation is that of the smallest loss: accuracy is high for a model that never finds a rare class, and
    macro F1, which is told beside it, jumps with each of a few examples.
    """

    headline = "accuracy"
    kept_by = "nats_per_example"

    def loss(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Summed nats."""
        return F.cross_entropy(self.answers(arrays), arrays["labels"], reduction="sum")

    def figures(self, arrays: Mapping[str, Tensor]) -> Mapping[str, float]:
        """Accuracy, nats per example, and of each class how many were right, were said, and are."""
        logits, labels = self.answers(arrays), arrays["labels"]
        said, classes = logits.argmax(-1), logits.size(-1)
        nats = F.cross_entropy(logits, labels, reduction="sum")
        rows = [said[said == labels], said, labels]
        counts = torch.stack([torch.bincount(one, minlength=classes) for one in rows]).tolist()
        named = {f"{kind} {n}": count for kind, row in zip(_COUNTS, counts, strict=True) for n, count in enumerate(row)}
        return {"accuracy": float(sum(counts[0])), "nats_per_example": float(nats), **named}

    def summary(self, values: dict[str, float]) -> dict[str, float]:
        """`macro_f1` beside accuracy and loss: the mean over the classes that are there, or were said, of 2 x right /
        (said + are)."""
        found = {"accuracy": values["accuracy"], "nats_per_example": values["nats_per_example"]}
        number = sum(name.startswith(f"{_COUNTS[0]} ") for name in values)
        rows = [[values[f"{kind} {n}"] for kind in _COUNTS] for n in range(number)]
        scores = [2 * right / (said + are) for right, said, are in rows if said + are > 0]
        return {**found, "macro_f1": sum(scores) / max(1, len(scores))}


class RegressionObjective(_Labels[E]):
    """One number for each example: squared error. Values are learnt as they are; scale them to about one."""

    headline = "mean_squared_error"
    label_dtype = np.float32

    def _values(self, arrays: Mapping[str, Tensor]) -> Tensor:
        answers = self.answers(arrays)
        if answers.size(-1) != 1:
            raise ConfigError(f"regression needs a head with one output, not {answers.size(-1)}", hint="num_labels=1")
        return answers.squeeze(-1)

    def loss(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Summed squared error."""
        return F.mse_loss(self._values(arrays), arrays["labels"], reduction="sum")

    def figures(self, arrays: Mapping[str, Tensor]) -> Mapping[str, float]:
        """Squared and absolute error, and what is needed for the explained share of the variance."""
        values, labels = self._values(arrays), arrays["labels"]
        errors = values - labels
        return {
            "mean_squared_error": float(errors.square().sum()),
            "mean_absolute_error": float(errors.abs().sum()),
            "label_mean": float(labels.sum()),
            "label_square": float(labels.square().sum()),
        }

    def summary(self, values: dict[str, float]) -> dict[str, float]:
        """`r_squared` beside the errors; unknown (nan) where labels do not vary is left out."""
        mean, square = values.pop("label_mean"), values.pop("label_square")
        variance = square - mean * mean
        explained = {"r_squared": 1 - values["mean_squared_error"] / variance} if variance > 1e-12 else {}
        return {**values, **explained}


class TaggingObjective(_Labels[TaggedText]):
    """A class for each token: cross-entropy over the tokens that count."""

    headline = "accuracy"

    def collate(self, material: list[TaggedText], rng: np.random.Generator, *, training: bool) -> Batch:
        """The reader's arrays and `labels` (B, T), -100 where none counts."""
        arrays = self.reader(material, rng, training=training)
        labels = padded([example.label for example in material], IGNORED)
        if labels.shape != arrays["input_ids"].shape:
            raise ConfigError("a text has as many labels as tokens; special tokens have -100")
        return Batch(arrays={**arrays, "labels": labels}, weight=int((labels != IGNORED).sum()), items=len(labels))

    def loss(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Summed nats over tokens that count."""
        logits = self.answers(arrays)
        return F.cross_entropy(logits.flatten(0, 1), arrays["labels"].flatten(), ignore_index=IGNORED, reduction="sum")

    def figures(self, arrays: Mapping[str, Tensor]) -> Mapping[str, float]:
        """Accuracy and nats, per token that counts."""
        logits, labels = self.answers(arrays), arrays["labels"]
        nats = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
        return {"accuracy": float((logits.argmax(-1) == labels).sum()), "nats_per_token": float(nats)}
