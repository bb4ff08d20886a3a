"""Prompted: the model as it is, asked in several ways: zero-shot, few-shot, chain of thought, self-consistency.

Which prompt, which examples and how many are chosen on dev; a budget that ends says so. This module does not know how
a prompt is written or a strategy asks (see `adapt.prompts`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bloomery.adapt.comparison.answering import answered_all, mean_of, scored
from bloomery.adapt.comparison.arm import Setting, Tried, Tuned
from bloomery.adapt.comparison.spending import Spending
from bloomery.adapt.prompts import PromptTemplate, StrategyConfig, open_strategy, read_prompt
from bloomery.adapt.prompts.strategies import Kind
from bloomery.core.config import from_dict, to_dict
from bloomery.core.messages import ChatModel
from bloomery.evaluate.sample import Answerer, Sample

Chosen = Mapping[str, Any]
_VOTES: tuple[tuple[Kind, int], ...] = (("votes", 5), ("routed", 5), ("votes", 9))
"""Routed ones take the greedy answer where votes do not agree, or have no answer at all."""
_SHOTS = ((4, "fixed"), (8, "fixed"), (4, "nearest"), (8, "nearest"))
LEAST = 10
"""Questions of dev that one way is tried on at least."""


class PromptedArm:
    """One of the four; see the module."""

    asks = True

    def __init__(self, name: str) -> None:
        self.name = name

    def unfit(self, setting: Setting) -> str:
        if self.name == "few-shot" and not any(one.targets for one in setting.train):
            return "there are no answered questions in train to show"
        return ""

    def candidates(self, setting: Setting) -> list[dict[str, Any]]:
        """Ways to ask, the cheapest first: {"template", "strategy", "instruction"}."""
        thinks = self.name in ("chain-of-thought", "self-consistency")
        base = starting_template(setting, thinks=thinks)
        assert setting.model is not None
        asked = StrategyConfig(plain=setting.model.plain, seed=setting.config.seed)
        if self.name == "zero-shot":
            return [way(base, asked)]
        if self.name == "few-shot":
            return [way(with_examples(base, count, how, setting), asked) for count, how in _SHOTS]
        if self.name == "chain-of-thought":
            return [way(base, replace(asked, kind="thought"))]
        return [way(base, replace(asked, kind=kind, votes=votes)) for kind, votes in _VOTES]

    def tune(self, setting: Setting, spending: Spending, folder: Path) -> Tuned:
        assert setting.model is not None
        model = spending.counted(setting.model.chat)
        shows = self.name == "few-shot"
        return chosen_on_dev(
            setting,
            self.candidates(setting),
            lambda one: opened_way(one, model, setting.train),
            spending,
            labels_used=len(setting.train) if shows else 0,
        )

    @contextmanager
    def opened(self, setting: Setting, settings: Mapping[str, Any], folder: Path) -> Iterator[Answerer]:
        assert setting.model is not None
        yield opened_way(settings, setting.model.chat, setting.train)


def chosen_on_dev(
    setting: Setting,
    candidates: Sequence[Chosen],
    open_one: Callable[[Chosen], Answerer],
    spending: Spending,
    *,
    labels_used: int,
) -> Tuned:
    """Each candidate over dev while the budget lasts; the best mean wins, of equals the earlier (cheaper) one.

    A candidate that the budget cut short counts by what it has answered, if those are LEAST questions at least.
    """
    tried: list[Tried] = []
    notes: list[str] = []
    concurrency = 1 if setting.model is None else setting.model.config.concurrency
    for number, one in enumerate(candidates):
        if number and not spending.left:
            notes.append(f"the budget ended the search after {number} of {len(candidates)} ways")
            break
        answers = answered_all(
            open_one(one),
            setting.dev,
            concurrency=concurrency,
            going_on=_Least(LEAST, lambda: spending.left),
        )
        got = {answer.sample_id for answer in answers}
        seen = [sample for sample in setting.dev if sample.id in got]
        if len(seen) < len(setting.dev):
            notes.append(f"the budget cut way {number + 1} short: {len(seen)} of {len(setting.dev)} questions of dev")
        tokens = sum((answer.prompt_tokens or 0) + (answer.completion_tokens or 0) for answer in answers)
        scores = scored(seen, answers, setting.scorer)
        tried.append(Tried(settings=one, score=mean_of(scores), dev_tokens=tokens, scores=scores))
    best = max(tried, key=lambda one: one.score)
    if len(candidates) > 1:
        labels_used += len(setting.dev)
    return Tuned(
        settings=best.settings,
        dev_score=best.score,
        dev_scores=best.scores,
        labels_used=labels_used,
        tried=tuple(tried),
        notes=tuple(notes),
    )


class _Least:
    """Says yes so often whatever is left: something has to be known of a way."""

    def __init__(self, least: int, left: Callable[[], bool]) -> None:
        self._least, self._left = least, left

    def __call__(self) -> bool:
        self._least -= 1
        return self._least >= 0 or self._left()


def starting_template(setting: Setting, *, thinks: bool = False) -> PromptTemplate:
    """The library's prompt that fits the task, with the task's own instruction and limit of tokens."""
    config = setting.config
    name = "thought" if thinks else "classify" if config.choices else "question"
    template = read_prompt(name)
    changes: dict[str, Any] = {}
    if config.instruction:
        changes["instruction"] = f"{config.instruction}\n{template.instruction}" if thinks else config.instruction
    limit = config.max_thinking_tokens if thinks else config.max_new_tokens
    changes["options"] = replace(template.options, max_new_tokens=limit)
    return replace(template, **changes)


def with_examples(template: PromptTemplate, count: int, how: Any, setting: Setting) -> PromptTemplate:
    """The same prompt with examples of train before the question."""
    return replace(template, examples=replace(template.examples, count=count, how=how, seed=setting.config.seed))


def way(template: PromptTemplate, strategy: StrategyConfig) -> dict[str, Any]:
    """As JSON data, from which `opened_way` makes it again."""
    return {"template": to_dict(template), "strategy": to_dict(strategy)}


def opened_way(settings: Chosen, model: ChatModel, train: Sequence[Sample]) -> Answerer:
    """A strategy over a prompt."""
    template = from_dict(PromptTemplate, settings["template"])
    return open_strategy(template, model, from_dict(StrategyConfig, settings["strategy"]), train=train)
