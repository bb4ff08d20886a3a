"""LoRA: the model tuned on train with low-rank adapters, its best weights by dev; with or without passages to read.

Tasks whose questions share their choices become a classifier's; others are learnt as written answers. How many steps
the budget allows is counted before the first (tokens of train, of the validations and of the answers on dev), so that
it does not depend on how fast the machine is today. With budget left a learning curve is drawn: the same with a
quarter and half of the labels. This module does not know how a step is taken (see `adapt.tuning`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bloomery.adapt.comparison.answering import answered_all, mean_of, scored
from bloomery.adapt.comparison.arm import CurveStep, Setting, Tried, Tuned, curve_parts
from bloomery.adapt.comparison.arms.reading import ReadingArm, pay_for_index, reader_of
from bloomery.adapt.comparison.models import steady
from bloomery.adapt.comparison.passages import Reader, ReadingAnswerer
from bloomery.adapt.comparison.spending import Spending
from bloomery.adapt.comparison.work import PASS, Work
from bloomery.adapt.tuning.answerer import TunedWriter, open_tuned, tune
from bloomery.adapt.tuning.config import AdaptConfig
from bloomery.core.errors import ConfigError, DataError
from bloomery.core.spent import Spent
from bloomery.evaluate.sample import Answerer, Sample
from bloomery.training.fit import FitConfig

EPOCHS = 4
_PASSAGES = 3
_VALIDATIONS = FitConfig().validations + 1
"""Over all of dev: before, and on the way."""
_STEP = 5
"""Passes that a step takes beside its arithmetic."""
_WRAPPED = 16
"""Tokens that a chat template puts around a question."""
_FILE = "adapter.json"


@dataclass(frozen=True)
class Plan:
    """What a training reads, counted."""

    train_tokens: float
    """Of an example, on average."""
    dev_tokens: int
    """Of all of dev."""
    written_tokens: int
    """Of the answers on dev, at most."""
    batch_rows: int

    def fixed(self, work: Work, dev: int) -> tuple[float, int]:
        """(operations, tokens) of validations and of dev's answers, whatever is trained."""
        read = (_VALIDATIONS + 1) * self.dev_tokens
        operations = work.asked(read, self.written_tokens) + PASS * dev
        return operations, read + self.written_tokens

    def step(self, work: Work) -> tuple[float, float]:
        """(operations, tokens) of a step."""
        tokens = self.train_tokens * self.batch_rows
        return work.learn * tokens + PASS * _STEP, tokens


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
        plan = self._plan(setting, train, dev)
        wanted = steps_wanted(len(train))
        steps = steps_that_fit(plan, wanted, len(dev), spending)
        self.took(plan, steps, len(dev), spending)
        tuned = self._tuned(setting, train, dev, steps, spending)
        (folder / _FILE).write_text(json.dumps({"artifact": tuned.artifact.id}), encoding="utf-8")
        scores = self._on_dev(setting, tuned, reader)
        settings = {"method": "lora", "steps": steps, "passages": _PASSAGES if self._reads else 0}
        notes = (f"the budget ended training after {steps:,} of {wanted:,} steps",) if steps < wanted else ()
        made = spending.spent
        curve = self._curve(setting, train, dev, reader, spending) if steps == wanted else ()
        return Tuned(
            settings=settings,
            dev_score=mean_of(scores),
            dev_scores=scores,
            labels_used=len(train) + len(dev),
            tried=(Tried(settings=settings, score=mean_of(scores), scores=scores),),
            notes=notes,
            curve=(*curve, CurveStep(len(train), mean_of(scores))) if curve else (),
            made=made,
        )

    def _on_dev(self, setting: Setting, tuned: Any, reader: Reader | None) -> tuple[float, ...]:
        with closing(tuned):
            answers = answered_all(_within(setting, tuned, reader), setting.dev)
        return scored(setting.dev, answers, setting.scorer)

    def _curve(
        self,
        setting: Setting,
        train: Sequence[Sample],
        dev: Sequence[Sample],
        reader: Reader | None,
        spending: Spending,
    ) -> tuple[CurveStep, ...]:
        """What fewer labels are worth, as far as the budget reaches: each is a training of its own."""
        found = []
        for part in curve_parts(train, setting.config.seed):
            plan, wanted = self._plan(setting, part, dev), steps_wanted(len(part))
            try:
                if steps_that_fit(plan, wanted, len(dev), spending) < wanted:
                    break
                self.took(plan, wanted, len(dev), spending)
                tuned = self._tuned(setting, part, dev, wanted, spending)
            except (ConfigError, DataError):  # a label that is not among so few
                break
            found.append(CurveStep(len(part), mean_of(self._on_dev(setting, tuned, reader))))
        return tuple(found)

    @contextmanager
    def opened(self, setting: Setting, settings: Mapping[str, Any], folder: Path) -> Iterator[Answerer]:
        artifact = json.loads((folder / _FILE).read_text(encoding="utf-8"))["artifact"]
        tuned = open_tuned(artifact, instruction=_instruction(setting), workspace=setting.workspace)
        with closing(tuned):
            yield _within(setting, tuned, reader_of(setting, int(settings["passages"])) if self._reads else None)

    def _plan(self, setting: Setting, train: Sequence[Sample], dev: Sequence[Sample]) -> Plan:
        """Lengths as the model reads them."""
        assert setting.model is not None and setting.model.loaded is not None
        config, tokenizer = AdaptConfig(), setting.model.loaded.tokenizer
        most = min(config.context_length, setting.model.loaded.context_length)
        labels = bool(setting.config.choices)

        def length(sample: Sample) -> int:
            if labels:
                return min(most, len(tokenizer.encode(sample.input)) + 1)
            texts = (_instruction(setting), sample.input, *sample.choices, *sample.targets[:1])
            return min(most, sum(len(tokenizer.encode(text)) for text in texts) + _WRAPPED)

        most_written = min(setting.config.max_new_tokens, most // 2)
        return Plan(
            train_tokens=sum(map(length, train)) / max(1, len(train)),
            dev_tokens=sum(map(length, dev)),
            written_tokens=0 if labels else most_written * len(dev),
            batch_rows=min(config.fit.batch_rows, len(train)),
        )

    def took(self, plan: Plan, steps: int, dev: int, spending: Spending) -> None:
        """Count a training: the clocks and the meter tell the rest."""
        fixed, step = plan.fixed(spending.work, dev), plan.step(spending.work)
        read, written = fixed[1] - plan.written_tokens + round(step[1] * steps), plan.written_tokens
        spending.add(Spent(operations=fixed[0] + steps * step[0], prompt_tokens=read, completion_tokens=written))

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


def steps_wanted(examples: int) -> int:
    """Where the budget allows."""
    return EPOCHS * math.ceil(examples / AdaptConfig().fit.batch_rows)


def steps_that_fit(plan: Plan, wanted: int, dev: int, spending: Spending) -> int:
    """As many of those that are wanted as the budget allows, by counts. ConfigError where it allows none."""
    fixed, step = plan.fixed(spending.work, dev), plan.step(spending.work)
    fit = float(wanted)
    for left, before, each in (
        (spending.operations_left, fixed[0], step[0]),
        (spending.tokens_left, fixed[1], step[1]),
    ):
        if left is not None:
            fit = min(fit, (left - before) / each)
    if fit < 1:
        raise ConfigError("the budget is over before the first step of training", hint="a larger budget")
    return int(fit)


def _within(setting: Setting, tuned: Any, reader: Reader | None) -> Answerer:
    if isinstance(tuned, TunedWriter):
        tuned.max_new_tokens = setting.config.max_new_tokens
        steady(tuned.chat.model)
    return tuned if reader is None else ReadingAnswerer(tuned, reader)


def _instruction(setting: Setting) -> str:
    return setting.config.instruction


def _read(samples: Sequence[Sample], reader: Reader | None) -> list[Sample]:
    return list(samples) if reader is None else [reader.read(sample)[0] for sample in samples]
