"""Pairs: a judge that knows, one that takes whatever comes first, one that says nothing, one that likes length."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence

import pytest
from sklearn.metrics import cohen_kappa_score

from bloomery.core.budget import Budget, BudgetConfig, BudgetedChat, BudgetError
from bloomery.core.errors import DataError
from bloomery.core.messages import ChatAnswer, ChatDelta, ChatOptions, Message, Usage
from bloomery.evaluate.judge import JudgeConfig
from bloomery.evaluate.judge_pairs import judge_pairs
from bloomery.evaluate.sample import Answered, Sample

SAMPLES = [Sample(id=str(n), input=f"question {n}") for n in range(20)]
GOOD = [Answered(sample_id=str(n), text=f"good {n}") for n in range(20)]
BAD = [Answered(sample_id=str(n), text=f"bad {n}, and at some length") for n in range(20)]


class Prefers:
    """Sees both answers, as the question has them, and says what a function makes of them."""

    name = "prefers"

    def __init__(self, say: Callable[[str, str, ChatOptions], str]) -> None:
        self.say, self.number = say, 0

    def answer(self, messages: Sequence[Message], options: ChatOptions) -> ChatAnswer:
        self.number += 1
        first, second = re.findall(r"<(?:first|second)-answer-\w+>\n(.*?)\n</", messages[-1]["content"], re.DOTALL)
        text = self.say(first, second, options)
        return ChatAnswer(
            text=text, finish_reason="stop", usage=Usage(prompt_tokens=9, completion_tokens=1), seconds=0.1
        )

    def stream(self, messages: Sequence[Message], options: ChatOptions) -> Iterator[ChatDelta]:
        yield ChatDelta(text=self.answer(messages, options).text)


def knows(first: str, second: str, options: ChatOptions) -> str:
    return "tie" if first[:3] == second[:3] else "first" if first.startswith("good") else "second"


def test_a_judge_that_knows():
    model = Prefers(knows)
    found = judge_pairs(model, SAMPLES, BAD, GOOD, names=("bad", "good"), repeats=2, concurrency=3)
    assert (found.wins_a, found.wins_b, found.ties, found.flips, found.without_form) == (0, 20, 0, 0, 0)
    assert found.verdict is not None and found.verdict.better == "good" and model.number == 80
    assert found.first_place is not None and found.first_place.value == 0.5
    assert found.consistency is not None and found.consistency.value == 1
    assert found.self_consistency is not None and found.self_consistency.n == 40 and found.self_consistency.value == 1
    assert found.longer is not None and found.longer.value == 0 and found.tokens == 800
    assert "uncalibrated" in found.sentence() and "good is better than bad" in found.sentence()
    plain = json.loads(json.dumps(found.to_dict()))
    assert (plain["wins_b"], len(plain["preferences"]), plain["verdict"]["better"]) == (20, 20, "good")
    assert plain["preferences"][3] == found.preferences[3].to_dict() and plain["first_place"]["value"] == 0.5


def test_a_judge_that_takes_what_comes_first_has_shown_nothing():
    found = judge_pairs(Prefers(lambda first, second, options: "first"), SAMPLES, BAD, GOOD)
    assert (found.wins_a, found.wins_b, found.ties, found.flips) == (0, 0, 20, 20)
    assert found.first_place is not None and found.first_place.value == 1 and found.first_place.low > 0.9
    assert found.consistency is not None and found.consistency.value == 0
    assert found.verdict is not None and found.verdict.better is None


def test_a_judge_without_form_is_counted():
    model = Prefers(lambda first, second, options: "Well...")
    found = judge_pairs(model, SAMPLES, BAD, GOOD)
    assert found.without_form == 20 and found.verdict is None and found.first_place is None and model.number == 80
    assert "too few" in found.sentence()
    late = Prefers(lambda first, second, options: knows(first, second, options) if options.seed == 1 else "Well...")
    assert judge_pairs(late, SAMPLES, BAD, GOOD).wins_b == 20


def test_half_a_preference_is_a_tie():
    model = Prefers(lambda first, second, options: "tie" if first.startswith("good") else "second")
    found = judge_pairs(model, SAMPLES, BAD, GOOD)
    assert found.ties == 20 and found.flips == 0


def test_what_is_not_there_loses_without_the_judge():
    model = Prefers(knows)
    gone = [Answered(sample_id=str(n), text="", error="gone") for n in range(20)]
    assert judge_pairs(model, SAMPLES, GOOD, gone).wins_a == 20 and judge_pairs(model, SAMPLES, GOOD, GOOD).ties == 20
    assert model.number == 0
    with pytest.raises(DataError):
        judge_pairs(model, SAMPLES, GOOD, list(reversed(BAD)))


def test_a_spent_budget_is_no_judgement():
    model = BudgetedChat(Prefers(knows), Budget(BudgetConfig(requests=3)))
    with pytest.raises(BudgetError, match="requests"):
        judge_pairs(model, SAMPLES[:4], BAD[:4], GOOD[:4])


def test_labels_of_people():
    labels = {str(n): "b" if n < 16 else "a" for n in range(20)}
    half = Prefers(lambda first, second, options: "first" if (first.startswith("good")) == ("1" in first) else "second")
    found = judge_pairs(half, SAMPLES, BAD, GOOD, labels=labels, config=JudgeConfig(rubric="?", attempts=1))  # type: ignore
    assert found.calibration.labels == 20 and found.calibration.constant == "b"
    assert found.calibration.constant_same == 0.8 and not found.calibration.calibrated
    said = [one.winner for one in found.preferences]
    assert set(said) == {"a", "b"} and found.calibration.kappa is not None
    theirs = cohen_kappa_score(list(labels.values()), said)
    assert found.calibration.kappa.value == pytest.approx(theirs)
