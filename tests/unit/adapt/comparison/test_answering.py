"""Answers are kept as they come and taken up again; a line that was cut off is none."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from bloomery.adapt.comparison.answering import answered_all, mean_of, plain, read_answers, scored, scores_of, unjudged
from bloomery.core.errors import RequestError
from bloomery.core.quantity import Quantity
from bloomery.core.run import NoMeter
from bloomery.evaluate.sample import Answered, Call, Sample, Score
from bloomery.evaluate.scorers.exact import Exact

SAMPLES = [Sample(id=str(n), input=f"{n}?", targets=(str(n),)) for n in range(6)]


class Echo:
    name = "echo"

    def __init__(self, stop_at: str = "") -> None:
        self.asked: list[str] = []
        self.stop_at = stop_at

    def answer(self, sample: Sample) -> Answered:
        if sample.id == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append(sample.id)
        call = Call(messages=[{"role": "user", "content": sample.input}], text=sample.id)
        return Answered(sample_id=sample.id, text=sample.id, calls=(call,), prompt_tokens=2)


class Counter(NoMeter):
    joules = 0.0

    def read(self):
        self.joules += 1.0
        return Quantity.exact(self.joules, "counter")


def test_a_killed_one_goes_on(tmp_path):
    path = tmp_path / "answers.jsonl"
    with pytest.raises(KeyboardInterrupt):
        answered_all(Echo("3"), SAMPLES, path)
    with path.open("ab") as file:
        file.write(b'{"sample_id": "3", "te')
    again = Echo()
    found = answered_all(again, SAMPLES, path, meter=Counter())
    assert again.asked == ["3", "4", "5"] and [one.text for one in found] == list("012345")
    assert found[5].energy_joules.central == 1.0 and not found[0].energy_joules.known and found[4].seconds > 0
    assert read_answers(path) == found and answered_all(Echo("0"), SAMPLES, path) == found
    assert read_answers(tmp_path / "none") == []


class Breaking(Echo):
    """Its server breaks down at some questions."""

    def __init__(self, *broken: str) -> None:
        super().__init__()
        self.broken = broken

    def answer(self, sample: Sample) -> Answered:
        found = super().answer(sample)
        return replace(found, text="", error="HTTP 503", failed=True) if sample.id in self.broken else found


def test_what_failed_is_asked_again(tmp_path):
    path = tmp_path / "answers.jsonl"
    many = [Sample(id=str(n), input="?", targets=(str(n),)) for n in range(30)]
    found = answered_all(Breaking("4", "7"), many, path)
    assert [one.sample_id for one in found if one.error] == ["4", "7"] and scored(many, found, Exact()).count(0.0) == 2
    again = Echo()
    assert [one.text for one in answered_all(again, many, path)] == [one.id for one in many]
    assert again.asked == ["4", "7"] and answered_all(Echo("0"), many, path) == answered_all(Echo("0"), many, path)


def test_a_server_that_is_gone_is_no_bad_answerer(tmp_path):
    path = tmp_path / "answers.jsonl"
    many = [Sample(id=str(n), input="?", targets=(str(n),)) for n in range(200)]
    with pytest.raises(RequestError, match="10 of 200 questions failed, the last of them: HTTP 503") as raised:
        answered_all(Breaking(*(str(n) for n in range(5, 200))), many, path)
    assert "goes on" in raised.value.hint
    with pytest.raises(RequestError, match="21 of 200"):
        answered_all(Breaking(*(str(n) for n in range(0, 200, 3))), many)
    assert len(answered_all(Echo("0"), many[:5], path)) == 5
    own = [Answered(sample_id=one.id, text="", error="too long") for one in many]  # of the questions, not the server
    assert scored(many, own, Exact()) == (0.0,) * 200


def test_a_judge_that_cannot_be_asked_is_no_zero():
    class Judge:
        name = "judge"

        def score(self, sample: Sample, answered: Answered) -> Score:
            gone = int(sample.id) >= 20
            return Score(
                sample_id=sample.id, scorer="judge", value=1.0 - gone, details={"error": "503"} if gone else {}
            )

    many = [Sample(id=str(n), input="?", targets=("x",)) for n in range(40)]
    answers = [Answered(sample_id=one.id, text="x") for one in many]
    assert scored(many[:22], answers[:22], Judge()) == (1.0,) * 20 + (0.0,) * 2
    assert [unjudged(one) for one in scores_of(many[:22], answers[:22], Judge())][-2:] == ["503", "503"]
    with pytest.raises(RequestError, match="judge: 5 of 40 questions failed, the last of them: 503"):
        scored(many, answers, Judge())


def test_several_at_a_time_and_an_end_of_the_budget():
    assert [one.text for one in answered_all(Echo(), SAMPLES, concurrency=3)] == list("012345")
    left = iter([True, True, False] + [False] * 9)
    assert len(answered_all(Echo(), SAMPLES, going_on=lambda: next(left))) == 2
    left = iter([True, True] + [False] * 20)
    assert len(answered_all(Echo(), SAMPLES, concurrency=2, going_on=lambda: next(left))) == 2


def test_where_a_budget_ends_does_not_depend_on_who_is_quick():
    """Eight at a time: the answers that came first are not those that count, but all that went out together."""

    class Hasty(Echo):
        def __init__(self, order: float) -> None:
            super().__init__()
            self.order, self.spent, self.lock = order, 0, threading.Lock()

        def answer(self, sample: Sample) -> Answered:
            time.sleep(abs(self.order - int(sample.id)) * 0.002)
            with self.lock:
                self.spent += 3
                return super().answer(sample)

    many = [Sample(id=str(n), input="?", targets=("x",)) for n in range(24)]
    ends = set()
    for order in (0.0, 24.0, 11.0):
        hasty = Hasty(order)
        found = answered_all(hasty, many, concurrency=4, going_on=lambda hasty=hasty: hasty.spent < 20)
        ends.add(tuple(one.sample_id for one in found))
    assert ends == {tuple(str(n) for n in range(8))}


def test_the_mean_counts_what_is_missing_as_wrong():
    answers = answered_all(Echo(), SAMPLES)
    assert mean_of(scored(SAMPLES, answers, Exact())) == 1.0
    assert mean_of(scored(SAMPLES, answers[:3], Exact())) == 0.5 and mean_of(()) == 0.0
    assert plain(answers[0])["calls"][0]["text"] == "0"
