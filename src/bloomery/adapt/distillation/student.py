"""Student: an objective that follows a teacher's distribution at each token of a completion, or the tokens themselves.

The teacher is in memory, or was asked before and its likeliest tokens kept (`Kept`). This module does not know where
texts come from. Shapes: B rows, T tokens, K candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bloomery.adapt.divergence import candidate_divergence, model_divergence
from bloomery.adapt.log_probabilities import label_logprobs, labelled
from bloomery.adapt.preference.encoded import Completion, rows_of
from bloomery.core.errors import ConfigError
from bloomery.models import Decoder
from bloomery.training.batches import BatchObjective
from bloomery.training.linear_cross_entropy import IGNORED
from bloomery.training.loader import Loader
from bloomery.training.objective import Batch


@dataclass(frozen=True)
class Taught:
    """A completion, and what the teacher said of each of its tokens, if it was asked before: ids and log-probabilities
    (tokens, K)."""

    text: Completion
    ids: np.ndarray | None = None
    logprobs: np.ndarray | None = None


class StudentObjective(BatchObjective[list[Taught]]):
    """(1 - label_weight) temperature^2 divergence + label_weight likelihood, the mean over completions' tokens.

    Without a teacher and without candidates the likelihood alone counts: learning from texts.
    """

    headline = "nats_per_token"

    def __init__(
        self,
        model: Decoder,
        loader: Loader[list[Taught]],
        *,
        seed: int,
        teacher: Decoder | None = None,
        beta: float = 0.0,
        temperature: float = 1.0,
        label_weight: float = 0.0,
        pad_id: int = 0,
    ) -> None:
        super().__init__(model, loader, seed=seed)
        if not 0 <= beta <= 1 or not 0 <= label_weight <= 1 or not temperature > 0:
            raise ConfigError("beta and label_weight are from 0 to 1, a temperature above 0")
        self.decoder, self.teacher, self.pad_id = model, teacher and teacher.eval(), pad_id
        self.beta, self.temperature, self.label_weight = beta, temperature, label_weight

    def collate(self, material: list[Taught], rng: np.random.Generator, *, training: bool) -> Batch:
        """`input_ids` and `labels` (B, T); `ids` and `logprobs` (B, T, K) if the teacher was asked before."""
        input_ids, labels = rows_of([one.text for one in material], self.pad_id)
        arrays = {"input_ids": input_ids, "labels": labels}
        first = material[0].ids
        if first is not None:
            ids = np.zeros((*labels.shape, first.shape[1]), dtype=np.int64)
            logprobs = np.zeros(ids.shape, dtype=np.float32)
            for row, one in enumerate(material):
                assert one.ids is not None and one.logprobs is not None
                places = labels[row] != IGNORED
                ids[row, places], logprobs[row, places] = one.ids, one.logprobs
            arrays |= {"ids": ids, "logprobs": logprobs}
        tokens = int((labels != IGNORED).sum())
        return Batch(arrays=arrays, weight=tokens, items=sum(len(one.text) for one in material))

    def loss(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Summed over tokens."""
        nll, gap = self._parts(arrays)
        if gap is None:
            return nll.sum()
        share = self.label_weight
        loss = (1 - share) * self.temperature**2 * gap.sum()
        return loss + share * nll.sum() if share else loss

    def figures(self, arrays: Mapping[str, Tensor]) -> Mapping[str, float]:
        """Nats of the texts' tokens, and the divergence from the teacher at the objective's temperature."""
        nll, gap = self._parts(arrays, always=True)
        found = {"nats_per_token": float(nll.sum())}
        return found if gap is None else {**found, "divergence": float(gap.sum())}

    def _parts(self, arrays: Mapping[str, Tensor], *, always: bool = False) -> tuple[Tensor, Tensor | None]:
        """Likelihoods (N,) of labelled tokens, if they are needed, and divergences (N,), if there is a teacher."""
        model, labels = self.decoder, arrays["labels"].flatten()
        kept = labelled(labels)
        hidden = model.hidden_states(arrays["input_ids"]).flatten(0, 1).index_select(0, kept)
        gap = None
        how: dict[str, Any] = {"beta": self.beta, "temperature": self.temperature}
        if "ids" in arrays:
            ids, logprobs = (arrays[name].flatten(0, 1)[kept] for name in ("ids", "logprobs"))
            gap = candidate_divergence(model, hidden, ids, logprobs, **how)
        elif self.teacher is not None:
            with torch.no_grad():
                its = self.teacher.hidden_states(arrays["input_ids"]).flatten(0, 1)[kept]
            gap = model_divergence(model, hidden, self.teacher, its, **how)
        if gap is not None and not self.label_weight and not always:
            return gap.new_zeros(0), gap
        nll = -label_logprobs(hidden, model.output_weight, labels[kept], softcap=model.output_softcap)
        return nll, gap
