"""Prompted: the model as it is, asked in several ways: zero-shot, few-shot, chain of thought, self-consistency.

Which prompt, which examples and how many are chosen on dev, among those that fit into the model's context; a budget
that ends says so. This module does not know how a prompt is written or a strategy asks (see `adapt.prompts`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bloomery.adapt.comparison.answering import answered_all, mean_of, scored
from bloomery.adapt.comparison.arm import Setting, Tried, Tuned
from bloomery.adapt.comparison.arms.room import described, too_long
from bloomery.adapt.comparison.models import OpenModel
from bloomery.adapt.comparison.spending import Spending
from bloomery.adapt.prompts import PromptTemplate, StrategyConfig, open_strategy, read_prompt
from bloomery.adapt.prompts.answer_rule import AnswerRule
from bloomery.adapt.prompts.by_likelihood import ByLikelihood, Length, open_likelihood
from bloomery.adapt.prompts.strategies import Kind, Strategy
from bloomery.core.config import from_dict, to_dict
from bloomery.core.likelihood import LikelihoodModel
from bloomery.core.messages import ChatModel
from bloomery.evaluate.sample import Answerer, Sample

Chosen = Mapping[str, Any]
_VOTES: tuple[tuple[Kind, int], ...] = (("votes", 5), ("routed", 5), ("votes", 9))
"""Routed ones take the greedy answer where votes do not agree, or have no answer at all."""
_SHOTS = ((4, "fixed"), (8, "fixed"), (4, "nearest"), (8, "nearest"))
_LENGTHS: tuple[Length, ...] = ("none", "bytes", "prior")
_CLOZE = """
{% if instruction %}{{ instruction }}

{% endif %}{% for one in examples %}{{ one.input }}
Answer: {{ one.answer }}

{% endfor %}{{ input }}
Answer:"""
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
        fitting, out = self.fitting(setting)
        return "" if fitting else f"none of its ways to ask fits into the model's context: {out[0]}"

    def fitting(self, setting: Setting) -> tuple[list[dict[str, Any]], list[str]]:
        """(ways to ask that fit into the context, why others do not)."""
        assert setting.model is not None
        found, out = [], []
        model = Asked.of(setting.model)
        for one in self.candidates(setting):
            asked = opened_way(one, model, setting.train)
            why = too_long(
                setting,
                asked.asked,
                plain="likelihood" in one or one["strategy"]["plain"],
                limit=one["template"]["options"]["max_new_tokens"],
                held="likelihood" in one or one["template"]["answer"]["constrained"],
            )
            if why:
                out.append(f"{described(one)}: {why}")
            else:
                found.append(one)
        return found, out

    def candidates(self, setting: Setting) -> list[dict[str, Any]]:
        """Ways to ask, the cheapest first: {"template", "strategy", "instruction"}."""
        thinks = self.name in ("chain-of-thought", "self-consistency")
        base = starting_template(setting, thinks=thinks)
        assert setting.model is not None
        asked = StrategyConfig(plain=setting.model.plain, seed=setting.config.seed)
        if self.name == "zero-shot":
            return [way(base, asked), *by_likelihood(setting, asked)]
        if self.name == "few-shot":
            shown = [with_examples(base, count, how, setting) for count, how in _SHOTS]
            likely = [one for count, how in _SHOTS for one in by_likelihood(setting, asked, count, how, _LENGTHS[:1])]
            # A model that knows no chat is best at likelihoods: one way in words is enough to see it.
            return [*(way(one, asked) for one in (shown[:1] if likely and asked.plain else shown)), *likely]
        if self.name == "chain-of-thought":
            return [way(base, replace(asked, kind="thought"))]
        return [way(base, replace(asked, kind=kind, votes=votes)) for kind, votes in _VOTES]

    def tune(self, setting: Setting, spending: Spending, folder: Path) -> Tuned:
        assert setting.model is not None
        model = Asked.of(setting.model, spending)
        shows = self.name == "few-shot"
        fitting, out = self.fitting(setting)
        tuned = chosen_on_dev(
            setting,
            fitting,
            lambda one: opened_way(one, model, setting.train),
            spending,
            labels_used=len(setting.train) if shows else 0,
        )
        return replace(tuned, notes=(*(f"left out before: {why}" for why in out), *tuned.notes))

    @contextmanager
    def opened(self, setting: Setting, settings: Mapping[str, Any], folder: Path) -> Iterator[Answerer]:
        assert setting.model is not None
        yield opened_way(settings, Asked.of(setting.model), setting.train)


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
    if has_choices(setting) and not thinks:
        template = replace(template, answer=replace(template.answer, constrained=True))
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


def by_likelihood(
    setting: Setting, asked: StrategyConfig, count: int = 0, how: str = "fixed", lengths: Sequence[Length] = _LENGTHS
) -> list[dict[str, Any]]:
    """Ways that score each choice after the question instead of asking for one; none where there are no choices, or a
    model does not tell likelihoods."""
    if setting.model is None or setting.model.likelihoods is None or not has_choices(setting):
        return []
    instruction = setting.config.instruction
    base = PromptTemplate(name="likelihood", instruction=instruction, plain=_CLOZE, answer=AnswerRule(take="choice"))
    template = with_examples(base, count, how, setting)
    return [{**way(template, asked), "likelihood": length} for length in lengths]


def has_choices(setting: Setting) -> bool:
    return bool(setting.config.choices or setting.config.choices_column)


@dataclass(frozen=True)
class Asked:
    """A model in both of the ways in which it is asked."""

    chat: ChatModel
    likelihoods: LikelihoodModel | None

    @classmethod
    def of(cls, model: OpenModel, spending: Spending | None = None) -> Asked:
        """With a spending, what is asked counts there."""
        if spending is None:
            return cls(model.chat, model.likelihoods)
        likely = None if model.likelihoods is None else spending.counted_likelihoods(model.likelihoods)
        return cls(spending.counted(model.chat), likely)


def opened_way(settings: Chosen, model: Asked, train: Sequence[Sample]) -> Strategy | ByLikelihood:
    """A strategy over a prompt, or its choices by likelihood."""
    template = from_dict(PromptTemplate, settings["template"])
    if "likelihood" in settings:
        assert model.likelihoods is not None
        return open_likelihood(template, model.likelihoods, train=train, length=settings["likelihood"])
    return open_strategy(template, model.chat, from_dict(StrategyConfig, settings["strategy"]), train=train)
