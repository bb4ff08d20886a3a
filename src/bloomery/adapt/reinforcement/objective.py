"""Learning from rewards (GRPO and its kin): answers are drawn, compared within their group, and made likelier or not.

Each batch is drawn from the model as it is when the batch is asked for. What was drawn and not yet learnt from is part
of the state, so a resumed run goes on exactly. This module does not know how answers are drawn or rewarded.
Shapes: B answers, T tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bloomery.adapt.log_probabilities import token_logprobs
from bloomery.adapt.preference.encoded import Completion, rows_of
from bloomery.adapt.reinforcement.config import ReinforceConfig
from bloomery.adapt.reinforcement.policy import advantages, token_losses, token_weights
from bloomery.adapt.reinforcement.rewards import Weighted
from bloomery.adapt.reinforcement.rollouts import Drawer, Rollout
from bloomery.adapt.starting import as_begun
from bloomery.models import Decoder
from bloomery.training.linear_cross_entropy import IGNORED
from bloomery.training.loader import ExampleLoader
from bloomery.training.objective import Batch, Validation, evaluating, precision_context, take

_CHECK_EVERY = 20
"""Draws from one comparison of the engine's log-probabilities with the trainer's to the next."""
_VALIDATION_SEED = 2**40


@dataclass(frozen=True)
class Question:
    """An encoded prompt, and the row that it came from, which rewards see."""

    prompt: tuple[int, ...]
    row: Mapping[str, Any]


class PolicyObjective:
    """See the module. `reference` is a model that stays as it is, needed where the config has a `kl_weight`; the
    trained one itself, if it has adapters, is computed without them."""

    unit = "tok"
    divisible = True
    packed = False

    def __init__(
        self,
        model: Decoder,
        loader: ExampleLoader[Question],
        drawer: Drawer,
        rewards: Sequence[Weighted],
        config: ReinforceConfig,
        *,
        reference: Decoder | None = None,
        pad_id: int = 0,
        micro_rows: int = 0,
    ) -> None:
        self.model: Decoder = model
        self.loader, self.drawer, self.rewards, self.config = loader, drawer, rewards, config
        self.reference, self.pad_id = reference, pad_id
        self.micro_rows = micro_rows or config.fit.micro_rows or config.fit.batch_rows
        self._draws = 0
        self._left = 0
        self._pending: dict[str, Any] = {}
        self._curve: list[dict[str, float]] = []
        self._gap = [0.0, 0.0]
        self._sums: list[Tensor] = []
        """Of the last draw's batches: tokens, clipped ones, and nats from the reference."""

    def next_batch(self, rows: int) -> Batch:
        """`input_ids`, `labels`, `old` (log-probabilities when drawn) and, with a reference, its, all (B, T);
        `advantage` and `share` (B,)."""
        if not self._left:
            self._pending, self._left = self._drawn(rows // self.config.group), self.config.iterations
        self._left -= 1
        return self._batch(self._pending)

    def loss(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Summed over answers."""
        config, labels = self.config, arrays["labels"]
        logprobs = token_logprobs(self.model, arrays["input_ids"], labels, temperature=config.temperature)
        losses, clipped, distance = token_losses(
            logprobs,
            arrays.get("old", logprobs.detach()),
            arrays["advantage"],
            clip_low=config.clip_low,
            clip_high=config.clip_high,
            reference=arrays.get("reference"),
            kl_weight=config.kl_weight,
            kl_weighted=config.kl_weighted,
        )
        counts = labels != IGNORED
        # Where they are computed, until somebody asks: reading them at every step would wait for a GPU.
        sums = [counts.sum(), (clipped & counts).sum(), (distance.detach() * counts).sum()]
        self._sums.append(torch.stack([one.double() for one in sums]))
        return ((losses * counts).sum(1) * arrays["share"]).sum()

    def can_validate(self) -> bool:
        """Whether prompts are held out."""
        return bool(self.loader) and self.config.validation_prompts > 0

    def validate(self, batches: int | None, device: torch.device, precision: str) -> Validation:
        """Mean `reward` of greedy answers to prompts that are held out, each reward's own mean, tokens of an answer,
        and the share that ended."""
        held = [one for batch in take(self.loader.held_out(), batches) for one in batch]
        held = held[: self.config.validation_prompts]
        with evaluating(self.model):
            drawn = self.drawer.draw([one.prompt for one in held], 1, temperature=0.0, seed=_VALIDATION_SEED)
        worth = self._worth(drawn, held)
        values = {
            "reward": float(worth.sum(1).mean()),
            "tokens": float(np.mean([len(one.completion) for one in drawn])),
            "ended": float(np.mean([one.ended for one in drawn])),
        }
        if len(self.rewards) > 1:
            for column, reward in enumerate(self.rewards):
                values[f"reward_{reward.name}"] = float(worth[:, column].mean()) / (reward.weight or 1.0)
        return Validation(values, "reward")

    def state_dict(self) -> dict[str, Any]:
        """The loader's place, and answers that are still to be learnt from."""
        self._tell()
        return {
            "loader": self.loader.state_dict(),
            "draws": self._draws,
            "left": self._left,
            "pending": self._pending if self._left else {},
            "curve": [dict(one) for one in self._curve],
            "gap": list(self._gap),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on there."""
        self.loader.load_state_dict(state["loader"])
        self._draws, self._left, self._pending = int(state["draws"]), int(state["left"]), dict(state["pending"])
        self._curve, self._gap = [dict(one) for one in state["curve"]], list(state["gap"])
        self._sums = []

    def stats(self) -> dict[str, Any]:
        """Draws, their rewards, and how far the engine's log-probabilities were from the trainer's."""
        self._tell()
        curve = [
            [
                number,
                round(one["reward"], 6),
                round(one["length"], 3),
                round(one["alike"], 4),
                round(one["clipped"] / max(1.0, one["tokens"]), 6),
                round(one["kl"] / max(1.0, one["tokens"]), 8),
            ]
            for number, one in enumerate(self._curve, 1)
        ]
        return {
            **self.loader.stats(),
            "draws": self._draws,
            "engine_gap_mean_nats": self._gap[0],
            "engine_gap_max_nats": self._gap[1],
            "reward_columns": ["draw", "reward", "tokens", "groups_alike", "clipped", "kl_nats"],
            "reward_curve": curve,
        }

    def _drawn(self, prompts: int) -> dict[str, Any]:
        """New answers, as JSON data."""
        self._tell()
        config = self.config
        questions = self.loader.next(prompts)
        seed = config.fit.seed * 1_000_003 + self._draws
        drawn = self.drawer.draw(
            [one.prompt for one in questions], config.group, temperature=config.temperature, seed=seed
        )
        worth = torch.from_numpy(self._worth(drawn, questions).sum(1))
        grouped = worth.view(-1, config.group)
        self._curve.append(
            {
                "reward": float(worth.mean()),
                "length": float(np.mean([len(one.completion) for one in drawn])),
                "alike": float((grouped.amax(1) == grouped.amin(1)).float().mean()),
                "tokens": 0.0,
                "clipped": 0.0,
                "kl": 0.0,
            }
        )
        pending: dict[str, Any] = {
            "prompts": [list(one.prompt) for one in drawn],
            "completions": [list(one.completion) for one in drawn],
            "counts": [one.ended or config.learn_from_cut for one in drawn],
            "advantages": advantages(worth, config.group, config.scale).tolist(),
        }
        if self._draws % _CHECK_EVERY == 0:
            self._compare(pending, drawn)
        if config.iterations > 1:
            pending["old"] = self._said(pending, config.temperature)
        if self.reference is not None and config.kl_weight:
            pending["reference"] = self._said(pending, config.temperature, reference=True)
        self._draws += 1
        return pending

    def _tell(self) -> None:
        """Add to the last draw's figures what its batches gave."""
        if self._sums:
            for name, value in zip(("tokens", "clipped", "kl"), torch.stack(self._sums).sum(0).tolist(), strict=True):
                self._curve[-1][name] += value
        self._sums = []

    def _worth(self, drawn: Sequence[Rollout], questions: Sequence[Question]) -> np.ndarray:
        """(answers, rewards) float64, weighted."""
        return np.array(
            [
                [reward.weight * reward.score(one.text, questions[one.place].row) for reward in self.rewards]
                for one in drawn
            ],
            dtype=np.float64,
        )

    def _batch(self, pending: Mapping[str, Any]) -> Batch:
        answers = _answers(pending)
        input_ids, labels = rows_of(answers, self.pad_id)
        labels[~np.array(pending["counts"])] = IGNORED
        lengths = torch.from_numpy((labels != IGNORED).sum(1))
        arrays = {
            "input_ids": input_ids,
            "labels": labels,
            "advantage": np.array(pending["advantages"], dtype=np.float32),
            "share": token_weights(lengths, self.config.average, self.config.max_new_tokens).float().numpy(),
        }
        for name in ("old", "reference"):
            if name in pending:
                arrays[name] = _placed(pending[name], answers, input_ids.shape)
        return Batch(arrays=arrays, weight=len(answers), items=sum(len(one) for one in answers))

    def _said(self, pending: Mapping[str, Any], temperature: float, *, reference: bool = False) -> list[list[float]]:
        """Log-probabilities of completions' tokens under the model as it is, or the reference, some rows at a time, in
        the trainer's precision."""
        model = self.reference if reference and self.reference is not None else self.model
        answers, found = _answers(pending), []
        device = next(model.parameters()).device
        begun = as_begun(self.model) if reference and model is self.model else contextlib.nullcontext()
        with evaluating(model), precision_context(device, self._precision(device)), begun:
            for start in range(0, len(answers), self.micro_rows):
                part = answers[start : start + self.micro_rows]
                input_ids, labels = (torch.from_numpy(array).to(device) for array in rows_of(part, self.pad_id))
                each = token_logprobs(model, input_ids, labels, temperature=temperature).cpu()
                for row, one in zip(each, part, strict=True):
                    begin = len(one.prompt) - 1
                    found.append(row[begin : begin + len(one.completion)].tolist())
        return found

    def _precision(self, device: torch.device) -> str:
        wanted = self.config.fit.precision
        return wanted if wanted != "auto" or device.type == "cpu" else "bfloat16"

    def _compare(self, pending: Mapping[str, Any], drawn: Sequence[Rollout]) -> None:
        """The engine's log-probabilities beside the trainer's, of the unmodified distribution."""
        trainer = np.concatenate(self._said(pending, 1.0))
        engine = np.concatenate([one.logprobs for one in drawn])
        gaps = np.abs(trainer - engine)
        self._gap = [max(self._gap[0], float(gaps.mean())), max(self._gap[1], float(gaps.max()))]


def _answers(pending: Mapping[str, Any]) -> list[Completion]:
    pairs = zip(pending["prompts"], pending["completions"], strict=True)
    return [Completion(tuple(prompt), tuple(completion)) for prompt, completion in pairs]


def _placed(values: Sequence[Sequence[float]], answers: Sequence[Completion], shape: tuple[int, ...]) -> np.ndarray:
    """Values of completions' tokens where their labels are, (B, T)."""
    made = np.zeros(shape, dtype=np.float32)
    for row, one, said in zip(made, answers, values, strict=True):
        begin = len(one.prompt) - 1
        row[begin : begin + len(said)] = said
    return made
