"""Asking: every question once, in whatever order answers come; what one question has to blame ends nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from bloomery.core.budget import Budget, BudgetConfig, BudgetedChat, BudgetError
from bloomery.core.errors import ConfigError, RequestError
from bloomery.core.likelihood import Likelihood, Pair
from bloomery.core.messages import ChatAnswer, ChatDelta, ChatOptions, Message, Usage
from bloomery.evaluate.tasks import Question, Record, Subject, Task, ask, questions
from bloomery.evaluate.tasks.rows import Row


class Backwards:
    """Finds texts the likelier the shorter they are, and tells the last first."""

    name = "backwards"

    def likelihoods(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Likelihood]]:
        for place in reversed(range(len(pairs))):
            yield place, Likelihood(nats=-float(len("".join(pairs[place]))), tokens=1, greedy=False)

    def rolling(self, texts: Sequence[str]) -> Iterator[tuple[int, Likelihood]]:
        yield from self.likelihoods([Pair("", text) for text in texts])


class Echo:
    """Answers with its question, but for one that it refuses."""

    name = "echo"

    def __init__(self) -> None:
        self.asked: list[tuple[str, ChatOptions]] = []

    def answer(self, messages: Sequence[Message], options: ChatOptions) -> ChatAnswer:
        self.asked.append((messages[0]["content"], options))
        if messages[0]["content"] == "refused":
            raise RequestError("too long", code="context_length_exceeded", status=400)
        return ChatAnswer(text=messages[0]["content"], finish_reason="stop", usage=Usage(), seconds=0.1)

    def stream(self, messages: Sequence[Message], options: ChatOptions) -> Iterator[ChatDelta]:
        raise NotImplementedError


def made(task: Task, *values: dict[str, Any]) -> list[Question]:
    return list(questions(task, [Row(one, f"f:{n}", "f") for n, one in enumerate(values)]))


def asked(task: Task, found: list[Question], subject: Subject) -> list[Record]:
    records = dict(ask(task, found, subject))
    assert sorted(records) == list(range(len(found)))
    return [records[place] for place in sorted(records)]


def test_choices_texts_and_last_words():
    subject = Subject(name="b", likelihoods=Backwards())
    choice = Task(name="c", kind="choice")
    values = [{"query": "q" * n, "choices": ["long", "s"], "gold": n % 2} for n in range(1, 150)]
    records = asked(choice, made(choice, *values), subject)
    assert [record.answer for record in records] == ["s"] * 149
    assert [record.scores["accuracy"] for record in records] == [float(n % 2) for n in range(1, 150)]
    assert records[9].nats == (-15.0, -12.0) and records[9].where == "f:9"
    text = Task(name="t", kind="text")
    assert [one.nats for one in asked(text, made(text, {"text": "abc"}, {"text": "a"}), subject)] == [(-3.0,), (-1.0,)]
    last = Task(name="l", kind="last_word")
    (record,) = asked(last, made(last, {"context": "a", "continuation": "b"}), subject)
    assert record.nats == (-3.0,) and record.scores["accuracy"] == 0.0


def test_free_answers():
    task = Task(name="g", kind="generation", metrics=("exact_match",), stop=("\n",), max_new_tokens=7)
    model = Echo()
    values = [{"input": one, "target": "a"} for one in ("a", "refused", "b")]
    right, refused, wrong = asked(task, made(task, *values), Subject(name="e", chat=model, concurrency=2))
    assert (right.scores, wrong.scores, refused.scores) == tuple({"exact_match": n} for n in (1.0, 0.0, 0.0))
    assert refused.error == "too long" and not refused.answer and right.answer == "a"
    options = model.asked[0][1]
    assert (options.max_new_tokens, options.temperature, options.stop) == (7, 0.0, ("\n",))


def test_a_model_that_cannot_be_asked_so():
    choice, free = Task(name="c", kind="choice"), Task(name="g", kind="generation")
    for task in (choice, free):
        with pytest.raises(ConfigError):
            list(ask(task, [], Subject(name="nothing")))


class Breaks(Echo):
    """Answers but for what holds an "x", one after the other."""

    def answer(self, messages: Sequence[Message], options: ChatOptions) -> ChatAnswer:
        if "x" in messages[0]["content"]:
            self.asked.append((messages[0]["content"], options))
            raise RequestError("broken", code="http_500", status=500)
        return super().answer(messages, options)


def test_too_many_failures_end_it_once_what_is_under_way_is_told():
    task = Task(name="g", kind="generation")
    model, told = Breaks(), list[tuple[int, Record]]()
    asked_for = [{"input": one, "target": "a"} for one in ("a", "x1", "b", "x2", "c", "d")]
    with pytest.raises(RequestError, match="2 of 4 questions failed") as caught:
        told.extend(ask(task, made(task, *asked_for), Subject(name="e", chat=model), most_failed=1))
    assert caught.value.code == "http_500" and [text for text, _ in model.asked] == ["a", "x1", "b", "x2"]
    assert [(place, record.failed) for place, record in told] == [(0, False), (1, True), (2, False), (3, True)]
    records = asked(task, made(task, *asked_for), Subject(name="e", chat=Breaks()))
    assert [record.error_code for record in records] == ["", "http_500", "", "http_500", "", ""]


def test_a_spent_budget_is_no_failure():
    task = Task(name="g", kind="generation", max_new_tokens=5)
    model = BudgetedChat(Echo(), Budget(BudgetConfig(requests=2)))
    five = made(task, *[{"input": f"{n}", "target": "a"} for n in range(5)])
    told: list[tuple[int, Record]] = []
    with pytest.raises(BudgetError, match="requests"):
        told.extend(ask(task, five, Subject(name="e", chat=model)))
    assert [place for place, _ in told] == [0, 1] and not any(record.error for _, record in told)
