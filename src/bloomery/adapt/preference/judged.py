"""Judged: learning from single answers, each good or bad, by KTO.

The reference point of KTO is how far the policy has gone from the reference on answers to other prompts. Which other
prompt an answer stands under is drawn once for each example, so that the reference's log-probabilities of both can be
found before training. This module does not know where answers come from. Shapes: B examples, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bloomery.adapt.log_probabilities import token_logprobs
from bloomery.adapt.preference.drift import Drift
from bloomery.adapt.preference.encoded import Completion, rows_of
from bloomery.adapt.preference.losses import kto_losses
from bloomery.core.errors import ConfigError, DataError
from bloomery.models import Decoder
from bloomery.training.batches import BatchObjective
from bloomery.training.loader import Loader
from bloomery.training.objective import Batch, Validation, evaluating


@dataclass(frozen=True)
class JudgedAnswer:
    """An encoded answer, whether it is good, somebody else's answer to the same prompt, and the log-probabilities in
    nats that the reference gives both."""

    answer: Completion
    label: bool
    other: Completion
    reference: tuple[float, float] = (0.0, 0.0)


def others(answers: Sequence[Completion], *, seed: int) -> list[Completion]:
    """For each prompt the completion of another example: the one before it in an order drawn from the seed. DataError
    for a single example."""
    if len(answers) < 2:
        raise DataError("KTO needs two examples or more: answers to other prompts are its reference point")
    order = np.random.default_rng(seed).permutation(len(answers))
    found: list[Completion] = list(answers)
    for place, number in enumerate(order):
        found[number] = Completion(answers[number].prompt, answers[order[place - 1]].completion)
    return found


class JudgedObjective(BatchObjective[list[JudgedAnswer]]):
    """KTO. The reference point is estimated over a batch, so a batch's loss is not computed in parts. With a `drift`
    validation says how far the model has gone from what it was."""

    divisible = False
    headline = "loss"

    def __init__(
        self,
        model: Decoder,
        loader: Loader[list[JudgedAnswer]],
        *,
        seed: int,
        beta: float = 0.1,
        desirable_weight: float = 1.0,
        undesirable_weight: float = 1.0,
        pad_id: int = 0,
        drift: Drift | None = None,
    ) -> None:
        super().__init__(model, loader, seed=seed)
        if not beta > 0:
            raise ConfigError(f"beta should be above 0, not {beta:g}")
        if desirable_weight < 0 or undesirable_weight < 0:
            raise ConfigError("weights of good and bad answers cannot be negative")
        self.decoder, self.beta, self.pad_id, self.drift = model, beta, pad_id, drift
        self.desirable_weight, self.undesirable_weight = desirable_weight, undesirable_weight

    def collate(self, material: list[JudgedAnswer], rng: np.random.Generator, *, training: bool) -> Batch:
        """`input_ids`, `labels` (B, T), the same of others' answers, `desirable` (B,), `reference` (B, 2)."""
        input_ids, labels = rows_of([one.answer for one in material], self.pad_id)
        other_ids, other_labels = rows_of([one.other for one in material], self.pad_id)
        arrays = {
            "input_ids": input_ids,
            "labels": labels,
            "other_ids": other_ids,
            "other_labels": other_labels,
            "desirable": np.array([one.label for one in material]),
            "reference": np.array([one.reference for one in material], dtype=np.float32),
        }
        items = sum(len(one.answer) + len(one.other) for one in material)
        return Batch(arrays=arrays, weight=len(material), items=items)

    def loss(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Summed over examples."""
        return self._losses(arrays)[0].sum()

    def figures(self, arrays: Mapping[str, Tensor]) -> Mapping[str, float]:
        """Loss, reference point, and sums of which `summary` makes rewards of good and bad answers, and the margin."""
        losses, ratios, kl = self._losses(arrays)
        good, rewards = arrays["desirable"], self.beta * ratios
        return {
            "loss": float(losses.sum()),
            "kl": float(kl) * len(losses),
            "good": float(good.sum()),
            "good_rewards": float(rewards[good].sum()),
            "bad_rewards": float(rewards[~good].sum()),
        }

    def summary(self, values: dict[str, float]) -> dict[str, float]:
        """Rewards are means over the answers of their kind; a kind that is not there has none."""
        found = {"loss": values["loss"], "kl": values["kl"]}
        good, bad = values["good"], 1 - values["good"]
        if good > 0:
            found["chosen_reward"] = values["good_rewards"] / good
        if bad > 1e-9:
            found["rejected_reward"] = values["bad_rewards"] / bad
        if "chosen_reward" in found and "rejected_reward" in found:
            found["reward_margin"] = found["chosen_reward"] - found["rejected_reward"]
        return found

    def validate(self, batches: int | None, device: torch.device, precision: str) -> Validation:
        """The figures' means, and the drift."""
        found = super().validate(batches, device, precision)
        return found if self.drift is None else self.drift.beside(found, self.decoder)

    def _losses(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Losses and log-ratios (B,), the reference point."""
        with evaluating(self.decoder):
            other = token_logprobs(self.decoder, arrays["other_ids"], arrays["other_labels"]).sum(1)
        kl = (other - arrays["reference"][:, 1]).mean().clamp_min(0.0)
        sums = token_logprobs(self.decoder, arrays["input_ids"], arrays["labels"]).sum(1)
        ratios = sums - arrays["reference"][:, 0]
        losses = kto_losses(
            ratios,
            arrays["desirable"],
            kl,
            beta=self.beta,
            desirable_weight=self.desirable_weight,
            undesirable_weight=self.undesirable_weight,
        )
        return losses, ratios.detach(), kl.detach()
