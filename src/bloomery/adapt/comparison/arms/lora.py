"""LoRA: the model tuned on train with low-rank adapters, its best weights by dev; with or without passages to read.

Tasks whose questions share their choices become a classifier's; others are learnt as written answers. How many steps
the budget allows is found by a few of them, before: where all epochs fit, nothing depends on the machine's speed. This
module does not know how a step is taken (see `adapt.tuning`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bloomery.adapt.comparison.answering import answered_all, mean_of, scored
from bloomery.adapt.comparison.arm import Setting, Tried, Tuned
from bloomery.adapt.comparison.arms.reading import ReadingArm, pay_for_index, reader_of
from bloomery.adapt.comparison.passages import Reader, ReadingAnswerer
from bloomery.adapt.comparison.spending import Spending, Spent
from bloomery.adapt.tuning.answerer import open_tuned, tune
from bloomery.adapt.tuning.config import AdaptConfig
from bloomery.core.errors import ConfigError
from bloomery.evaluate.sample import Answerer, Sample

EPOCHS = 4
_PASSAGES = 3
_PILOT_STEPS = 4
_SHARE = 0.75
"""Of what is left of the budget: the rest is for the validations, and for answering dev."""
_FILE = "adapter.json"


class LoraArm:
    """LoRA, or RAG + LoRA; see the module."""

    asks = True

    def __init__(self, name: str) -> None:
        self.name, self._reads = name, name == "rag-lora"

    def unfit(self, setting: Setting) -> str:
        if setting.model is None or setting.model.loaded is None:
            return "a model at an endpoint cannot be tuned here"
        if any(not one.targets for one in [*setting.train, *setting.dev]):
            return "questions of train or dev have no answer to learn"
        return ReadingArm("rag").unfit(setting) if self._reads else ""

    def tune(self, setting: Setting, spending: Spending, folder: Path) -> Tuned:
        assert setting.model is not None
        if self._reads:
            pay_for_index(setting, spending)
        reader = reader_of(setting, _PASSAGES) if self._reads else None
        train, dev = _read(setting.train, reader), _read(setting.dev, reader)
        steps, wanted = self._steps(setting, train, dev, spending)
        tuned = self._tuned(setting, train, dev, steps, spending)
        (folder / _FILE).write_text(json.dumps({"artifact": tuned.artifact.id}), encoding="utf-8")
        with closing(tuned):
            answers = answered_all(_within(setting, tuned, reader), setting.dev)
        scores = scored(setting.dev, answers, setting.scorer)
        settings = {"method": "lora", "steps": steps, "passages": _PASSAGES if self._reads else 0}
        notes = (f"the budget ended training after {steps:,} of {wanted:,} steps",) if steps < wanted else ()
        return Tuned(
            settings=settings,
            dev_score=mean_of(scores),
            dev_scores=scores,
            labels_used=len(train) + len(dev),
            tried=(Tried(settings=settings, score=mean_of(scores), scores=scores),),
            notes=notes,
        )

    @contextmanager
    def opened(self, setting: Setting, settings: Mapping[str, Any], folder: Path) -> Iterator[Answerer]:
        artifact = json.loads((folder / _FILE).read_text(encoding="utf-8"))["artifact"]
        tuned = open_tuned(artifact, instruction=_instruction(setting), workspace=setting.workspace)
        with closing(tuned):
            yield _within(setting, tuned, reader_of(setting, int(settings["passages"])) if self._reads else None)

    def _steps(
        self, setting: Setting, train: Sequence[Sample], dev: Sequence[Sample], spending: Spending
    ) -> tuple[int, int]:
        """(steps that the budget allows, steps that are wanted)."""
        wanted = EPOCHS * math.ceil(len(train) / AdaptConfig().fit.batch_rows)
        pilot = self._tuned(setting, train, dev, _PILOT_STEPS, spending)
        pilot.close()
        left = spending.processor_seconds_left
        if left is None:
            return wanted, wanted
        metrics = pilot.artifact.metrics
        a_step = max(1e-6, metrics["training_seconds"] / _PILOT_STEPS * torch.get_num_threads())
        fit, steps = int(left * _SHARE / a_step), wanted
        while steps > fit and steps > 1:  # by halves, so that a machine that is a little slower does the same
            steps //= 2
        if fit < 1:
            raise ConfigError(
                f"the budget is over after {_PILOT_STEPS} steps of training",
                hint="a larger budget",
            )
        return steps, wanted

    def _tuned(
        self, setting: Setting, train: Sequence[Sample], dev: Sequence[Sample], steps: int, spending: Spending
    ) -> Any:
        assert setting.model is not None
        config = AdaptConfig(samples=0)
        config = replace(config, fit=replace(config.fit, steps=steps, epochs=0.0, seed=setting.config.seed))
        before = spending.spent
        tuned = tune(
            setting.model.config.name,
            train,
            dev,
            labels=setting.config.choices,
            instruction=_instruction(setting),
            config=config,
            workspace=setting.workspace,
            fresh=setting.fresh,
        )
        took = spending.spent.seconds - before.seconds
        if tuned.training.seconds > took:  # by an attempt that was killed: it counts
            missing = tuned.training.seconds - took
            spending.add(Spent(processor_seconds=missing, seconds=missing, joules=tuned.training.energy_joules))
        return tuned


def _within(setting: Setting, tuned: Any, reader: Reader | None) -> Answerer:
    if hasattr(tuned, "max_new_tokens"):
        tuned.max_new_tokens = setting.config.max_new_tokens
    return tuned if reader is None else ReadingAnswerer(tuned, reader)


def _instruction(setting: Setting) -> str:
    return setting.config.instruction


def _read(samples: Sequence[Sample], reader: Reader | None) -> list[Sample]:
    return list(samples) if reader is None else [reader.read(sample)[0] for sample in samples]
