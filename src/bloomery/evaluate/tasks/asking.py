"""Asking: a model is put all questions of a task, records come as they are ready.

This module does not know where models or questions come from, nor where records go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.core.asking import ask_all
from bloomery.core.errors import ConfigError
from bloomery.core.likelihood import Likelihood, LikelihoodModel
from bloomery.core.messages import ChatModel, ChatOptions
from bloomery.evaluate.sample import Answered
from bloomery.evaluate.tasks.question import Question
from bloomery.evaluate.tasks.record import Record, begun, of_answer, of_likelihoods
from bloomery.evaluate.tasks.scoring import Judging
from bloomery.evaluate.tasks.task import Task

_QUESTIONS_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The model that is measured, in the ways in which it can be asked."""

    name: str
    likelihoods: LikelihoodModel | None = None
    chat: ChatModel | None = None
    """Goes on from a prompt, or answers one."""
    concurrency: int = 1
    """Free answers that are under way at once."""


def ask(task: Task, questions: Sequence[Question], subject: Subject, *, seed: int = 0) -> Iterator[tuple[int, Record]]:
    """(place, record) of each question, as they are ready. ConfigError if the model cannot be asked in the task's way;
    what one question alone has to blame stands in its record."""
    if not task.scored:
        yield from _written(task, questions, subject, seed)
        return
    model = subject.likelihoods
    if model is None:
        raise ConfigError(f"{task.name} needs likelihoods, which {subject.name} does not tell")
    if task.kind == "text":
        for place, found in model.rolling([one.sample.targets[0] for one in questions]):
            yield place, of_likelihoods(task, questions[place], [found])
        return
    for start in range(0, len(questions), _QUESTIONS_AT_ONCE):
        for place, record in _compared(task, questions[start : start + _QUESTIONS_AT_ONCE], model):
            yield start + place, record


def _compared(task: Task, questions: Sequence[Question], model: LikelihoodModel) -> Iterator[tuple[int, Record]]:
    owners = [(place, nth) for place, one in enumerate(questions) for nth in range(len(one.pairs))]
    pairs = [questions[place].pairs[nth] for place, nth in owners]
    found: list[dict[int, Likelihood]] = [{} for _ in questions]
    for number, likelihood in model.likelihoods(pairs):
        place, nth = owners[number]
        found[place][nth] = likelihood
        question = questions[place]
        if len(found[place]) == len(question.pairs):
            yield place, of_likelihoods(task, question, [found[place][n] for n in range(len(question.pairs))])


def _written(task: Task, questions: Sequence[Question], subject: Subject, seed: int) -> Iterator[tuple[int, Record]]:
    if subject.chat is None:
        raise ConfigError(f"{task.name} needs free answers, which {subject.name} does not give")
    judging = Judging(task)
    options = ChatOptions(max_new_tokens=task.max_new_tokens, temperature=0.0, seed=seed, stop=task.stop)
    asked = ((place, [{"role": "user", "content": one.prompt}], options) for place, one in enumerate(questions))
    for told in ask_all(subject.chat, asked, concurrency=subject.concurrency):
        question = questions[told.key]
        if told.answer is None:
            error = told.error.message if told.error is not None else "no answer"
            zero = dict.fromkeys(task.measured, 0.0)
            yield told.key, Record(**begun(question), scores=zero, error=error)
            continue
        answered = Answered(sample_id=question.sample.id, text=told.answer.text)
        scores, details = judging.scores(question.sample, answered)
        yield told.key, of_answer(question, told.answer, scores, details)
