"""Majority: the answer that is right most often in train, whatever is asked. What every arm has to beat."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bloomery.adapt.comparison.answering import mean_of, scored
from bloomery.adapt.comparison.arm import Setting, Tuned
from bloomery.adapt.comparison.spending import Spending
from bloomery.evaluate.sample import Answered, Answerer, Sample


class Constant:
    """The same answer to everything."""

    def __init__(self, text: str) -> None:
        self.text = text

    @property
    def name(self) -> str:
        return f"always {self.text!r:.40}"

    def answer(self, sample: Sample) -> Answered:
        began = time.perf_counter()
        return Answered(
            sample_id=sample.id,
            text=self.text,
            prompt_tokens=0,
            completion_tokens=0,
            seconds=time.perf_counter() - began,
        )


class MajorityArm:
    """See the module."""

    name = "majority"
    asks = False

    def unfit(self, setting: Setting) -> str:
        if len(setting.labels) < 2:
            return "answers are free texts, or each question has choices of its own: none is the most frequent"
        return ""

    def tune(self, setting: Setting, spending: Spending, folder: Path) -> Tuned:
        counts = Counter(target for sample in setting.train for target in sample.targets[:1])
        text = min(counts, key=lambda target: (-counts[target], target))
        constant = Constant(text)
        scores = scored(setting.dev, [constant.answer(sample) for sample in setting.dev], setting.scorer)
        return Tuned(
            settings={"text": text}, dev_score=mean_of(scores), dev_scores=scores, labels_used=len(setting.train)
        )

    @contextmanager
    def opened(self, setting: Setting, settings: Mapping[str, Any], folder: Path) -> Iterator[Answerer]:
        yield Constant(settings["text"])
