"""Trials: prompts judged on dev samples, every answer kept in a file, tokens counted against a budget.

What is in the file is not asked again, and its tokens count: a search that goes on spends what is left. This module
does not know how candidates are chosen.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from bloomery.adapt.prompts.strategies import StrategyConfig, open_strategy
from bloomery.adapt.prompts.tally import seed_for
from bloomery.adapt.prompts.template import PromptTemplate
from bloomery.core.budget import Budget, BudgetConfig, BudgetedChat, BudgetError
from bloomery.core.config import digest, to_dict
from bloomery.core.errors import ConfigError
from bloomery.core.messages import ChatModel, ChatOptions, Message
from bloomery.evaluate.sample import Answerer, Sample, Scorer


class Trials:
    """See the module."""

    def __init__(
        self,
        model: ChatModel,
        train: Sequence[Sample],
        dev: Sequence[Sample],
        scorer: Scorer,
        strategy: StrategyConfig,
        log: Path,
        *,
        tokens: int,
        seed: int = 0,
    ) -> None:
        order = np.random.default_rng(seed_for(seed, "dev")).permutation(len(dev))
        self.train, self.dev = tuple(train), tuple(dev[int(place)] for place in order)
        self.scorer, self.strategy = scorer, strategy
        self.model_name = model.name
        self.concurrency = 1
        self.heard: Callable[[], None] = lambda: None
        self.best = 0.0
        self.ended = ""
        self._limit = tokens
        self._log = log
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], dict[str, Any]] = {}
        self._spent: dict[str, int] = {}
        for row in _rows(log):
            self._count(row)
        self._budget = Budget(BudgetConfig(tokens=max(0, tokens - self.tokens)))
        self._model = BudgetedChat(model, self._budget)
        self._arms: dict[str, Answerer] = {}

    @property
    def tokens(self) -> int:
        """Spent so far, in earlier attempts too; proposals included."""
        return sum(self._spent.values())

    def spent_by(self) -> dict[str, int]:
        """Tokens for proposals, and for judging."""
        proposals = self._spent.get("proposal", 0)
        return {"proposals": proposals, "judging": self.tokens - proposals}

    def proposal(self, key: str, messages: Sequence[Message], options: ChatOptions) -> str:
        """What the model says to a question of the search's own; asked once. BudgetError where the budget ends."""
        kept = self._kept.get(("proposal", key))
        if kept is None:
            said = self._model.answer(messages, options)
            tokens = _tokens(said.usage.prompt_tokens, said.usage.completion_tokens)
            kept = {"prompt": "proposal", "sample": key, "text": said.text, "tokens": tokens}
            self._keep({**kept, "messages": [dict(one) for one in messages]})
        return kept["text"]

    def judged(self, template: PromptTemplate, items: int) -> tuple[float, float] | None:
        """Mean score and mean tokens of an answer over the first `items` of dev; None where the budget does not
        reach, which is seen before it is spent as far as one can."""
        key = self._key(template)
        missing = [sample for sample in self.dev[:items] if (key, sample.id) not in self._kept]
        needed = len(missing) * self._expected(key)
        if missing and self.tokens + needed > self._limit:
            self.ended = (
                f"{self._limit - self.tokens:,} tokens are left, about {needed:,.0f} needed for the next prompt"
            )
            return None
        self.ended = ""
        with ThreadPoolExecutor(self.concurrency) as pool:
            for future in [pool.submit(self._answered, template, key, sample) for sample in missing]:
                try:
                    self._keep(future.result())  # what was paid for is kept, also where the budget ends
                    self.heard()
                except BudgetError as error:
                    self.ended = error.message
        if self.ended:
            return None
        rows = [self._kept[(key, sample.id)] for sample in self.dev[:items]]
        score = float(np.mean([row["score"] for row in rows]))
        self.best = max(self.best, score) if items == len(self.dev) else self.best
        return score, float(np.mean([row["tokens"] for row in rows]))

    def scores(self, template: PromptTemplate, items: int) -> list[float]:
        """Of each of the first items, in the order in which they are asked."""
        key = self._key(template)
        return [self._kept[(key, sample.id)]["score"] for sample in self.dev[:items]]

    def _key(self, template: PromptTemplate) -> str:
        return digest([template.content_hash, to_dict(self.strategy)])[:16]

    def _expected(self, key: str) -> float:
        """Tokens of an answer: of this prompt so far, else of all; nothing is known before the first."""
        ours = [row["tokens"] for (prompt, _), row in self._kept.items() if prompt == key]
        every = ours or [row["tokens"] for (prompt, _), row in self._kept.items() if prompt != "proposal"]
        return float(np.mean(every)) if every else 0.0

    def _answered(self, template: PromptTemplate, key: str, sample: Sample) -> dict[str, Any]:
        with self._lock:
            if key not in self._arms:
                self._arms[key] = open_strategy(template, self._model, self.strategy, train=self.train)
            arm = self._arms[key]
        found = arm.answer(sample)
        tokens = _tokens(found.prompt_tokens, found.completion_tokens) if found.calls else 0
        score = self.scorer.score(sample, found).value
        row = {"prompt": key, "sample": sample.id, "score": score, "text": found.text, "tokens": tokens}
        return {**row, "error": found.error, "calls": [{"messages": c.messages, "text": c.text} for c in found.calls]}

    def _keep(self, row: dict[str, Any]) -> None:
        with self._lock, self._log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            self._count(row)

    def _count(self, row: dict[str, Any]) -> None:
        self._kept[(row["prompt"], row["sample"])] = row
        self._spent[row["prompt"]] = self._spent.get(row["prompt"], 0) + row["tokens"]


def _rows(log: Path) -> list[dict[str, Any]]:
    """Whole lines; the last may have been cut when the process died, and is cut off."""
    if not log.is_file():
        return []
    data = log.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) != len(data):
        log.write_bytes(whole)
    return [json.loads(line) for line in whole.splitlines()]  # of bytes: in a text U+2028 would end a line, too


def _tokens(prompt: int | None, completion: int | None) -> int:
    if prompt is None or completion is None:
        raise ConfigError("this model does not tell how many tokens it took: a budget of tokens cannot be kept")
    return prompt + completion
