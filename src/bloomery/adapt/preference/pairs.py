"""Pairs: learning which of two answers is the better one, by DPO, IPO or ORPO.

This module does not know where pairs come from, nor how the reference's log-probabilities were found (see `reference`).
Shapes: B pairs, T tokens; the two answers of a pair are the second dimension, the chosen one first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from bloomery.adapt.log_probabilities import token_logprobs
from bloomery.adapt.preference.drift import Drift
from bloomery.adapt.preference.encoded import Completion, rows_of
from bloomery.adapt.preference.losses import dpo_losses, ipo_losses, orpo_losses
from bloomery.core.errors import ConfigError
from bloomery.models import Decoder
from bloomery.training.batches import BatchObjective
from bloomery.training.linear_cross_entropy import IGNORED
from bloomery.training.loader import Loader
from bloomery.training.objective import Batch, Validation

PairLoss = Literal["sigmoid", "ipo", "orpo"]


@dataclass(frozen=True)
class Pair:
    """Two encoded answers to a prompt, and the log-probability in nats that the reference gives each (ORPO: unused)."""

    chosen: Completion
    rejected: Completion
    reference: tuple[float, float] = (0.0, 0.0)


class PairObjective(BatchObjective[list[Pair]]):
    """`loss` "sigmoid" is DPO. `beta` is how far the policy may go from the reference, of ORPO the odds ratio's weight.

    `nll` says which tokens of the chosen text ORPO's likelihood is of: its completion (the paper's), or all (TRL's).
    With a `drift` validation says how far the model has gone from what it was.
    """

    headline = "loss"

    def __init__(
        self,
        model: Decoder,
        loader: Loader[list[Pair]],
        *,
        seed: int,
        loss: PairLoss = "sigmoid",
        beta: float = 0.1,
        label_smoothing: float = 0.0,
        nll: Literal["completion", "all"] = "completion",
        pad_id: int = 0,
        drift: Drift | None = None,
    ) -> None:
        super().__init__(model, loader, seed=seed)
        if not beta > 0:
            raise ConfigError(f"beta should be above 0, not {beta:g}")
        if not 0 <= label_smoothing < 0.5:
            raise ConfigError(f"label_smoothing should be from 0 to below .5, not {label_smoothing:g}")
        if label_smoothing and loss != "sigmoid":
            raise ConfigError(f"label_smoothing belongs to the sigmoid loss, not to {loss}")
        self.decoder, self.kind, self.beta = model, loss, beta
        self.label_smoothing, self.nll, self.pad_id, self.drift = label_smoothing, nll, pad_id, drift

    def collate(self, material: list[Pair], rng: np.random.Generator, *, training: bool) -> Batch:
        """`input_ids`, `labels` and `answered` (B, 2, T), `reference` (B, 2), `share` (B,): what ORPO weighs a token of
        the chosen text with, so that its likelihood is the batch's mean over tokens."""
        both = [answer for pair in material for answer in (pair.chosen, pair.rejected)]
        input_ids, labels = rows_of(both, self.pad_id)
        answered = labels != IGNORED
        if self.kind == "orpo" and self.nll == "all":
            for row, answer in zip(labels[::2], both[::2], strict=True):
                row[: len(answer) - 1] = [*answer.prompt[1:], *answer.completion]
        tokens = int((labels[::2] != IGNORED).sum())
        arrays = {
            "input_ids": input_ids.reshape(len(material), 2, -1),
            "labels": labels.reshape(len(material), 2, -1),
            "answered": answered.reshape(len(material), 2, -1),
            "reference": np.array([pair.reference for pair in material], dtype=np.float32),
            "share": np.full(len(material), len(material) / max(1, tokens), dtype=np.float32),
        }
        return Batch(arrays=arrays, weight=len(material), items=sum(len(answer) for answer in both))

    def loss(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Summed over pairs."""
        return self._losses(arrays)[0].sum()

    def figures(self, arrays: Mapping[str, Tensor]) -> Mapping[str, float]:
        """Loss, rewards of both answers, their margin, and how often the chosen one has the larger. A reward is beta
        times the log-ratio (ORPO: times the mean log-probability of a token). `preference_accuracy` is how often the
        chosen one is the more probable of the two by token, whatever the reference says."""
        losses, scores, sums = self._losses(arrays)
        chosen, rejected = (self.beta * scores).unbind(1)
        tokens = arrays["answered"].sum(2)
        means = sums / tokens.clamp_min(1)
        return {
            "loss": float(losses.sum()),
            "chosen_reward": float(chosen.sum()),
            "rejected_reward": float(rejected.sum()),
            "reward_margin": float((chosen - rejected).sum()),
            "reward_accuracy": float((chosen > rejected).sum()),
            "preference_accuracy": float((means[:, 0] > means[:, 1]).sum()),
            "chosen_nats_per_token": float((-sums / tokens)[:, 0].sum()),
            "rejected_nats_per_token": float((-sums / tokens)[:, 1].sum()),
        }

    def validate(self, batches: int | None, device: torch.device, precision: str) -> Validation:
        """The figures' means, and the drift."""
        found = super().validate(batches, device, precision)
        return found if self.drift is None else self.drift.beside(found, self.decoder)

    def _losses(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Losses (B,), what rewards are made of (B, 2), summed log-probabilities (B, 2)."""
        shape = arrays["labels"].shape
        flat = token_logprobs(self.decoder, arrays["input_ids"].flatten(0, 1), arrays["labels"].flatten(0, 1))
        each, answered = flat.view(shape), arrays["answered"]
        sums, tokens = (each * answered).sum(2), answered.sum(2)
        if self.kind == "orpo":
            means = sums / tokens.clamp_min(1)
            nll = -each[:, 0].sum(1) * arrays["share"]
            return orpo_losses(means[:, 0], means[:, 1], nll, beta=self.beta), means.detach(), sums.detach()
        ratios = sums - arrays["reference"]
        chosen, rejected = ratios.unbind(1)
        if self.kind == "ipo":
            losses = ipo_losses(chosen, rejected, tokens[:, 0], tokens[:, 1], beta=self.beta)
        else:
            losses = dpo_losses(chosen, rejected, beta=self.beta, label_smoothing=self.label_smoothing)
        return losses, ratios.detach(), sums.detach()


@torch.no_grad()
def completion_logprobs(model: Decoder, completions: list[Completion], *, pad_id: int = 0) -> list[float]:
    """Summed log-probability in nats of each completion given its prompt, in one batch."""
    device = next(model.parameters()).device
    input_ids, labels = (torch.from_numpy(array).to(device) for array in rows_of(completions, pad_id))
    return token_logprobs(model, input_ids, labels).sum(1).tolist()
