"""Sequence to sequence: a target given a source, for transformers and recurrent nets alike.

Teacher forcing: at each step the decoder has the true tokens before it. This module does not know how texts are
searched (see `models.text_decoding`). Shapes: B rows, S source length, T target length, V target vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from bloomery.core.errors import ConfigError, DataError
from bloomery.models.recurrent import RecurrentSeq2Seq
from bloomery.models.seq2seq import Seq2Seq
from bloomery.training.batches import BatchObjective, mask_of, padded
from bloomery.training.linear_cross_entropy import IGNORED
from bloomery.training.loader import Loader
from bloomery.training.objective import Batch


@dataclass(frozen=True)
class TextPair:
    """Ids of a source and a target, without start and end tokens."""

    source: Sequence[int]
    target: Sequence[int]


Model = Seq2Seq | RecurrentSeq2Seq


class SequenceObjective(BatchObjective[list[TextPair]]):
    """Targets given sources. `label_smoothing` spreads that share of a label over the vocabulary, in training alone."""

    def __init__(
        self, model: Model, loader: Loader[list[TextPair]], *, seed: int, label_smoothing: float = 0.0
    ) -> None:
        super().__init__(model, loader, seed=seed)
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"label_smoothing should be at least 0 and below 1, not {label_smoothing:g}")
        self.translator, self.label_smoothing = model, label_smoothing

    def collate(self, material: list[TextPair], rng: np.random.Generator, *, training: bool) -> Batch:
        """`source_ids` (B, S), `decoder_input_ids` and `labels` (B, T), padded."""
        model = self.translator
        if any(not len(pair.source) for pair in material):
            raise DataError("a pair has an empty source", hint="leave such pairs out")
        sources = [np.array(model.source_ids(pair.source)) for pair in material]
        targets = [np.array([*pair.target, model.config.eos_token_id]) for pair in material]
        return target_batch(sources, targets, start_id=model.start_token_id, pad_id=model.config.pad_token_id)

    def loss(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Summed nats over the targets' tokens, end tokens included."""
        return target_loss(self.translator, arrays, label_smoothing=self.label_smoothing)

    def figures(self, arrays: Mapping[str, Tensor]) -> Mapping[str, float]:
        """Nats and accuracy of the targets' tokens, given the true ones before them."""
        return target_figures(self.translator, arrays)


def target_batch(sources: list[np.ndarray], targets: list[np.ndarray], *, start_id: int, pad_id: int) -> Batch:
    """Sources and targets, which end with their end token, as one padded batch; the decoder begins with `start_id`."""
    labels = padded(targets, IGNORED)
    begun = padded([np.concatenate([[start_id], target[:-1]]) for target in targets], pad_id)
    arrays = {"source_ids": padded(sources, pad_id), "decoder_input_ids": begun, "labels": labels}
    arrays["source_mask"] = mask_of(sources, arrays["source_ids"].shape[1])
    tokens = sum(len(target) for target in targets)
    return Batch(arrays=arrays, weight=tokens, items=tokens + int(arrays["source_mask"].sum()))


def target_logits(model: Model, arrays: Mapping[str, Tensor]) -> Tensor:
    """Logits (B, T, V) in float32."""
    if isinstance(model, RecurrentSeq2Seq):
        return model(arrays["source_ids"], arrays["decoder_input_ids"]).float()
    return model(arrays["source_ids"], arrays["decoder_input_ids"], arrays["source_mask"]).float()


def target_loss(model: Model, arrays: Mapping[str, Tensor], *, label_smoothing: float = 0.0) -> Tensor:
    """Summed nats over labels that are not -100."""
    logits, labels = target_logits(model, arrays), arrays["labels"]
    return F.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum", label_smoothing=label_smoothing
    )


def target_figures(model: Model, arrays: Mapping[str, Tensor]) -> Mapping[str, float]:
    """Summed nats and the number of tokens that were the most probable."""
    logits, labels = target_logits(model, arrays), arrays["labels"]
    nats = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return {"nats_per_token": float(nats), "accuracy": float((logits.argmax(-1) == labels).sum())}
