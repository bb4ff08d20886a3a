"""Classified: a classifier as a subject: its label is the answer, its labels' probabilities are those of choices.

A task's choices are labels of the classifier, or its right answers are; any other is an error before anything is asked.
This module does not know where models come from, nor files.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from threading import Lock

from bloomery.core.errors import ConfigError, RequestError
from bloomery.core.likelihood import Likelihood, Pair
from bloomery.core.messages import ChatAnswer, ChatDelta, ChatOptions, Message, Usage
from bloomery.engine import Classifier, TextEncoder
from bloomery.engine.labelling import Candidate
from bloomery.evaluate.preparing import Prepared
from bloomery.evaluate.tasks import Subject


class ClassifierAnswers:
    """A classifier as a `ChatModel`, which answers with its most probable label, and as a `LikelihoodModel` of its
    labels. What it reads is the whole prompt; tokens and joules are not told."""

    def __init__(self, model: Classifier | TextEncoder, labels: Sequence[str]) -> None:
        self.model, self.labels = model, tuple(labels)
        self._one_at_a_time = Lock()

    @property
    def name(self) -> str:
        return self.model.name

    def answer(self, messages: Sequence[Message], options: ChatOptions) -> ChatAnswer:
        """The most probable label. RequestError for a text that is empty."""
        began = time.perf_counter()
        label = self._all("".join(message["content"] for message in messages))[0].text
        return ChatAnswer(text=label, finish_reason="stop", usage=Usage(), seconds=time.perf_counter() - began)

    def stream(self, messages: Sequence[Message], options: ChatOptions) -> Iterator[ChatDelta]:
        """The same, in one piece."""
        found = self.answer(messages, options)
        yield ChatDelta(text=found.text, finish_reason=found.finish_reason, usage=found.usage)

    def likelihoods(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Likelihood]]:
        """Log-probabilities of labels, white space around them aside. RequestError for what is no label."""
        known: dict[str, dict[str, float]] = {}
        for place, pair in enumerate(pairs):
            began = time.perf_counter()
            if pair.context not in known:  # the labels of one text are asked for one after the other
                known = {pair.context: {one.text: one.logprob for one in self._all(pair.context)}}
            each, label = known[pair.context], pair.continuation.strip()
            if label not in each:
                raise RequestError(f"{label!r:.60} is no label of {self.name}", hint=", ".join(self.labels)[:200])
            seconds, greedy = time.perf_counter() - began, each[label] == max(each.values())
            yield place, Likelihood(nats=each[label], tokens=1, greedy=greedy, seconds=seconds)

    def rolling(self, texts: Sequence[str]) -> Iterator[tuple[int, Likelihood]]:
        """RequestError: a classifier has no likelihood of texts."""
        raise RequestError(f"{self.name} gives labels, no likelihood of texts")

    def _all(self, text: str) -> list[Candidate]:
        with self._one_at_a_time:
            return self.model.classify(text, top=len(self.labels))


def classifier_subject(model: Classifier | TextEncoder, labels: Sequence[str]) -> Subject:
    """What a task asks, of a classifier."""
    asked = ClassifierAnswers(model, labels)
    return Subject(name=model.name, likelihoods=asked, chat=asked)


def labelled_task(one: Prepared, labels: Sequence[str], name: str) -> Prepared:
    """A task as a classifier is measured by it: choices by accuracy alone, for labels have no length. ConfigError for
    one that it cannot answer."""
    task = one.task
    said = f"{name} is a classifier, whose labels are {', '.join(labels)}"[:200]
    if one.few_shot:
        raise ConfigError(
            f"{name} is a classifier, which learns nothing from examples before a text", hint="--few-shot 0"
        )
    if task.kind == "choice":
        for question in one.questions:
            other = next((choice for choice in question.choices if choice.strip() not in labels), None)
            if other is not None:
                where = question.sample.metadata["where"]
                raise ConfigError(f"{said}: {where} has the choice {other!r:.60}", hint="choices that are its labels")
        return replace(one, task=replace(task, metrics=("accuracy",)))
    targets = {target.strip() for question in one.questions for target in question.sample.targets}
    if task.kind != "generation" or not targets & set(labels):
        raise ConfigError(f"{said}: {task.name} asks for something else", hint="rows of text and label, or of choices")
    return one
