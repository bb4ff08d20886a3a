"""Many questions at once: how many, in which order, and when it is no use to go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from bloomery.core.asking import TOO_LONG, ask_all
from bloomery.core.errors import RequestError
from bloomery.core.messages import ChatAnswer, ChatDelta, ChatOptions, Usage

OPTIONS = ChatOptions()


class Model:
    """Answers with the question, or fails as told."""

    name = "test"

    def __init__(self, errors: dict[str, RequestError] | None = None) -> None:
        self.errors = errors or {}
        self.asked: list[str] = []
        self.now = self.most = 0
        self._lock = threading.Lock()

    def answer(self, messages, options: ChatOptions) -> ChatAnswer:
        text = messages[0]["content"]
        with self._lock:
            self.asked.append(text)
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.002)
        with self._lock:
            self.now -= 1
        if text in self.errors:
            raise self.errors[text]
        return ChatAnswer(text=text, finish_reason="stop", usage=Usage(), seconds=0.0)

    def stream(self, messages, options: ChatOptions) -> Iterator[ChatDelta]:
        yield ChatDelta(text=self.answer(messages, options).text)


def questions(number: int):
    return ((str(n), [{"role": "user", "content": str(n)}], OPTIONS) for n in range(number))


def test_every_question_is_answered_once_and_so_many_at_a_time():
    model = Model()
    found = list(ask_all(model, questions(40), concurrency=4))
    assert sorted(one.key for one in found) == sorted(map(str, range(40)))
    assert all(one.answer is not None and one.answer.text == one.key for one in found)
    assert sorted(model.asked) == sorted(map(str, range(40))) and 1 < model.most <= 4


def test_questions_are_read_as_there_is_room():
    read = []

    def noted():
        for one in questions(1000):
            read.append(one[0])
            yield one

    asking = ask_all(Model(), noted(), concurrency=2)
    next(asking)
    asking.close()
    assert len(read) <= 4


def test_an_error_is_told_beside_answers():
    model = Model({"3": RequestError("no", status=500)})
    found = {one.key: one for one in ask_all(model, questions(5))}
    assert found["3"].error is model.errors["3"] and found["3"].answer is None
    assert found["4"].answer is not None


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_all_would_meet_ends_it_at_once(status: int):
    model = Model({"0": RequestError("wrong key", status=status)})
    with pytest.raises(RequestError, match="wrong key"):
        list(ask_all(model, questions(100)))
    assert model.asked == ["0"]


def test_what_was_under_way_is_told_before_the_end():
    model = Model({"5": RequestError("wrong key", status=401)})
    found = []
    with pytest.raises(RequestError, match="wrong key"):
        found.extend(one.key for one in ask_all(model, questions(100), concurrency=4))
    assert sorted([*found, "5"]) == sorted(model.asked)


def test_failures_in_a_row_end_it_and_others_do_not():
    gone = {str(n): RequestError("gone", status=503) for n in range(20, 100)}
    model = Model({"1": RequestError("once", status=503), **gone})
    with pytest.raises(RequestError, match="gone"):
        list(ask_all(model, questions(100), failures_in_a_row=5))
    assert len(model.asked) == 25


def test_texts_that_are_too_long_are_nobodys_failure():
    errors = {str(n): RequestError("too long", status=400, code=TOO_LONG) for n in range(30)}
    found = list(ask_all(Model(errors), questions(31), failures_in_a_row=3))
    assert sum(one.error is not None for one in found) == 30


def test_concurrency_out_of_range():
    with pytest.raises(RequestError, match="concurrency"):
        list(ask_all(Model(), questions(1), concurrency=0))
