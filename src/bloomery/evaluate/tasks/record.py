"""Record: one sample of a task with what a model made of it, what that is worth, and what it took.

A record is read again from a line of `samples.jsonl`. This module does not know how models are asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bloomery.core.asking import TOO_LONG
from bloomery.core.errors import BloomeryError
from bloomery.core.likelihood import Likelihood
from bloomery.core.messages import ChatAnswer, Usage
from bloomery.core.quantity import Quantity
from bloomery.evaluate.sample import Answered, Sample
from bloomery.evaluate.tasks.question import Question
from bloomery.evaluate.tasks.task import Task

UNJUDGED = "unjudged"
"""The code of an answer that the judge could not be asked about."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """See the module. Costs are those of asking anew; None and unknown for what nobody said."""

    id: str
    group: str = ""
    cluster: str = ""
    where: str = ""
    """File and line of the row."""
    input: str = ""
    choices: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    golds: tuple[int, ...] = ()
    answer: str = ""
    """The choice that is taken, or the text that was written."""
    nats: tuple[float, ...] = ()
    """Sum of log-probabilities of each choice, or of the text."""
    tokens: tuple[int, ...] = ()
    """How many tokens that were."""
    scores: dict[str, float] = field(default_factory=dict)
    """By metric; what a metric is made of where it is no mean over samples."""
    details: dict[str, Any] = field(default_factory=dict)
    """What scorers say beside it."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float = 0.0
    energy_joules: Quantity = field(default_factory=Quantity.unknown)
    contaminated: str = ""
    """Words that it shares with the training corpus."""
    cached: bool = False
    error: str = ""
    """Why there is no answer, or no judgement; it is worth 0, and told apart from one that is wrong."""
    error_code: str = ""
    """What kind of error, in a short word."""

    @property
    def failed(self) -> bool:
        """Whether there is no answer for a reason that is not the question's own: nobody knows what it were worth."""
        return bool(self.error) and self.error_code != TOO_LONG

    def to_dict(self) -> dict[str, Any]:
        """As JSON data, empty fields left out."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain["energy_joules"] = self.energy_joules.to_dict() if self.energy_joules.known else None
        kept = {name: value for name, value in plain.items() if value is not False and value not in (None, "", (), {})}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Record:
        """Of a line of `samples.jsonl`."""
        values = {name: value for name, value in plain.items() if name in cls.__dataclass_fields__}
        for name in ("choices", "targets", "golds", "nats", "tokens"):
            if name in values:
                values[name] = tuple(values[name])
        if "energy_joules" in values:
            values["energy_joules"] = Quantity.from_dict(values["energy_joules"])
        return cls(**values)


def begun(question: Question) -> dict[str, Any]:
    """The fields of a record that the question alone says."""
    sample = question.sample
    return {
        "id": sample.id,
        "group": question.group,
        "cluster": sample.cluster,
        "where": str(sample.metadata.get("where", "")),
        "input": sample.input,
        "choices": question.choices,
        "targets": sample.targets,
        "golds": question.golds,
    }


def of_likelihoods(task: Task, question: Question, found: Sequence[Likelihood]) -> Record:
    """The record of a question whose texts were scored."""
    from bloomery.evaluate.tasks.metrics import likelihood_scores

    nats = tuple(one.nats for one in found)
    scores = likelihood_scores(task, question, found)
    answer = question.choices[nats.index(max(nats))] if question.choices else ""
    return Record(
        **begun(question),
        answer=answer,
        nats=nats,
        tokens=tuple(one.tokens for one in found),
        scores=scores,
        **_cost([one.usage for one in found], sum(one.seconds for one in found)),
        cached=all(one.cached for one in found),
    )


def of_failure(question: Question, scores: dict[str, float], error: BloomeryError) -> Record:
    """The record of a question that has no answer."""
    code = getattr(error, "code", None) or type(error).__name__
    return Record(**begun(question), scores=scores, error=error.one_line(), error_code=code)


def sample_of(record: Record) -> Sample:
    """What was asked, without what scorers alone wanted to see."""
    choices = tuple(dict.fromkeys(record.choices))
    return Sample(
        id=record.id,
        input=record.input,
        targets=record.targets,
        choices=choices if len(choices) > 1 else (),
        cluster=record.cluster,
    )


def answered_of(record: Record) -> Answered:
    """What was answered; `details` are the choices with their log-probabilities."""
    each = zip(record.choices, record.nats, record.tokens, strict=False)
    listed = [{"choice": choice, "nats": round(nats, 3), "tokens": tokens} for choice, nats, tokens in each]
    details = {"log-probabilities": listed} if listed else {}
    return Answered(
        sample_id=record.id,
        text=record.answer,
        prompt_tokens=record.prompt_tokens,
        completion_tokens=record.completion_tokens,
        seconds=record.seconds,
        energy_joules=record.energy_joules,
        error=record.error,
        details=details,
    )


def of_answer(question: Question, answer: ChatAnswer, scores: dict[str, float], details: dict[str, Any]) -> Record:
    """The record of a question that was answered freely."""
    return Record(
        **begun(question),
        answer=answer.text,
        scores=scores,
        details=details,
        **_cost([answer.usage], answer.seconds),
        cached=answer.cached,
    )


def _cost(usages: Sequence[Usage], seconds: float) -> dict[str, Any]:
    prompt = [one.prompt_tokens for one in usages]
    completion = [one.completion_tokens for one in usages]
    joules = usages[0].energy_joules
    for one in usages[1:]:
        joules = joules + one.energy_joules
    return {
        "prompt_tokens": None if None in prompt else sum(n for n in prompt if n is not None),
        "completion_tokens": None if None in completion else sum(n for n in completion if n is not None),
        "seconds": seconds,
        "energy_joules": joules,
    }
