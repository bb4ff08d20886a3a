"""Preference optimisation as a stage: a model and a file of preferences in, a model that keeps to them out.

    read -> encode -> what the reference says -> fit -> publish

Killed at any instant, the same call goes on from its last checkpoint. This module does not know any one loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from bloomery.adapt.preference.config import PreferenceConfig
from bloomery.adapt.preference.drift import FIGURE, Drift
from bloomery.adapt.preference.encoded import Completion, encode_completion
from bloomery.adapt.preference.judged import JudgedAnswer, JudgedObjective, others
from bloomery.adapt.preference.pairs import Pair, PairLoss, PairObjective
from bloomery.adapt.preference.preferences import Judged, Preference, read_judged, read_preferences
from bloomery.adapt.preference.reference import FILE, reference_logprobs
from bloomery.adapt.starting import STAGE, Start, begin_anew, split
from bloomery.core.artifact import Artifact, sha256_file
from bloomery.core.config import to_dict
from bloomery.core.errors import DataError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.energy import open_meter
from bloomery.training.fit import fit, precision_of
from bloomery.training.loader import ExampleLoader
from bloomery.training.speed import choose_device

_LOSSES: dict[str, PairLoss] = {"dpo": "sigmoid", "ipo": "ipo", "orpo": "orpo"}
_RATE = 0.1
"""Of the learning rate of examples: preferences are learnt about ten times as slowly."""
_ABSOLUTE = frozenset({"loss", "preference_accuracy", "chosen_nats_per_token", "rejected_nats_per_token"})
"""Figures that say something before anything is learnt: rewards and the divergence are nought then."""
T = TypeVar("T")


def prefer(
    model: Artifact,
    data: str | Path,
    *,
    config: PreferenceConfig | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> Artifact:
    """Tune a model by preferences; returns an "adapter", or a "model" where all weights are trained, whose parent is
    the model that it began with.

    `data` is a file as `read_preferences` or, for KTO, `read_judged` takes it. An equal call returns the same artifact
    without training, unless `fresh`. Raises ConfigError, DataError, TrainingError.
    """
    workspace, config = as_workspace(workspace), config or PreferenceConfig()
    data = Path(data).expanduser()
    if not data.is_file():
        raise DataError(f"there is no file {data}")
    inputs = StageInputs(
        stage=STAGE,
        config={"method": config.method, **to_dict(config)},
        parents=(model.id,),
        seed=config.fit.seed,
        fingerprint=sha256_file(data),
    )
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    with Run(workspace, inputs, meter=open_meter()) as run:
        if fresh:
            begin_anew(run, FILE)
        lora = config.lora if config.weights == "lora" else None
        return _Preferring(run, config, Start.of(model, lora, seed=config.fit.seed)).publish(data)


class _Preferring:
    def __init__(self, run: Run, config: PreferenceConfig, start: Start) -> None:
        self.run, self.config, self.start = run, config, start
        self.left_out = 0

    def publish(self, data: Path) -> Artifact:
        """Train and publish."""
        config = self.config
        torch.manual_seed(config.fit.seed)
        self.start.decoder.to(choose_device(config.fit.device))
        with self.run.phase("prepare"):
            objective, loader = self._judged(data) if config.method == "kto" else self._pairs(data)
        steps_an_epoch = len(loader.train) // loader.rows
        fitting = self.start.rated(config.fit, _RATE)
        before = self._validated(objective)
        fitted = fit(self.run, objective, fitting, steps_an_epoch=steps_an_epoch, stage=STAGE)
        metrics = {
            "method": config.method,
            "weights": config.weights,
            "learning_rate": fitting.learning_rate,
            "left_out": self.left_out,
            **{f"before_{name}": value for name, value in before.items() if name in _ABSOLUTE},
            **fitted.metrics,
        }
        if fitted.validation is None and objective.drift is not None:
            metrics[FIGURE] = objective.drift.measure(self.start.decoder)
        return self.start.publish(self.run, metrics)

    def _validated(self, objective: PairObjective | JudgedObjective) -> Mapping[str, float]:
        device = self.start.decoder.output_weight.device
        precision = precision_of(self.config.fit, device)
        return objective.validate(None, device, precision).values if objective.can_validate() else {}

    def _pairs(self, data: Path) -> tuple[PairObjective, ExampleLoader[Pair]]:
        config = self.config
        encoded = [(self._encoded(one, one.chosen), self._encoded(one, one.rejected)) for one in read_preferences(data)]
        kept = [pair for pair in encoded if self._fits(*pair)]
        reference = [0.0] * (2 * len(kept))
        if config.method != "orpo":
            reference = self._reference([answer for pair in kept for answer in pair])
        scores = zip(reference[::2], reference[1::2], strict=True)
        pairs = [Pair(*pair, reference=score) for pair, score in zip(kept, scores, strict=True)]
        lengths = [max(len(one.chosen), len(one.rejected)) for one in pairs]
        loader = self._loader(pairs, [one.chosen.prompt for one in pairs], lengths)
        objective = PairObjective(
            self.start.decoder,
            loader,
            seed=config.fit.seed,
            loss=_LOSSES[config.method],
            beta=config.beta,
            label_smoothing=config.label_smoothing,
            nll=config.nll,
            pad_id=self.start.pad_id,
            drift=self._drift([one.chosen for one in loader.validation or loader.train]),
        )
        return objective, loader

    def _judged(self, data: Path) -> tuple[JudgedObjective, ExampleLoader[JudgedAnswer]]:
        config = self.config
        read = [(self._encoded(one, one.completion), one.label) for one in read_judged(data)]
        kept = [(answer, label) for answer, label in read if self._fits(answer)]
        other = others([answer for answer, _ in kept], seed=config.fit.seed)
        reference = self._reference([*(answer for answer, _ in kept), *other])
        scores = zip(reference[: len(kept)], reference[len(kept) :], strict=True)
        answers = [
            JudgedAnswer(answer, label, another, reference=score)
            for (answer, label), another, score in zip(kept, other, scores, strict=True)
        ]
        loader = self._loader(answers, [one.answer.prompt for one in answers], None)
        asked = loader.validation or loader.train
        objective = JudgedObjective(
            self.start.decoder,
            loader,
            seed=config.fit.seed,
            beta=config.beta,
            desirable_weight=config.desirable_weight,
            undesirable_weight=config.undesirable_weight,
            pad_id=self.start.pad_id,
            drift=self._drift([one.answer for one in asked if one.label] or [one.answer for one in asked]),
        )
        return objective, loader

    def _encoded(self, one: Preference | Judged, completion: str) -> Completion:
        return encode_completion(self.start.tokenizer, one.prompt, completion)

    def _fits(self, *answers: Completion) -> bool:
        """Labels are next tokens, so a row is one shorter than its text; the longer of both counts."""
        limit = min(self.config.max_tokens, self.start.decoder.context_length)
        fits = all(len(answer) <= limit for answer in answers)
        self.left_out += not fits
        return fits

    def _reference(self, completions: Sequence[Completion]) -> list[float]:
        return reference_logprobs(self.start.decoder, completions, self.run, pad_id=self.start.pad_id)

    def _drift(self, answers: Sequence[Completion]) -> Drift:
        """Of better answers that are held out, or learnt from where none are. When a run goes on, the model is here
        what it began with, as it was the first time."""
        return Drift(self.start.decoder, answers, pad_id=self.start.pad_id)

    def _loader(self, examples: list[T], prompts: list[Any], lengths: list[int] | None) -> ExampleLoader[T]:
        if not examples:
            raise DataError(f"all {self.left_out:,} examples are longer than {self.config.max_tokens:,} tokens")
        if self.left_out:
            self.run.note(f"{self.left_out:,} examples are too long and were left out")
        seed, rows = self.config.fit.seed, self.config.fit.batch_rows
        held, kept = split(prompts, self.config.validation_fraction, seed)
        return ExampleLoader(
            [examples[number] for number in kept],
            [examples[number] for number in held],
            rows=rows,
            seed=seed,
            lengths=None if lengths is None else [lengths[number] for number in kept],
        )
