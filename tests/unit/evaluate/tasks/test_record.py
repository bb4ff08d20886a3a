"""Records: what is written is read again, costs included; what nobody told stays unknown."""

from __future__ import annotations

import json

from bloomery.core.budget import BudgetError
from bloomery.core.errors import RequestError
from bloomery.core.likelihood import Likelihood
from bloomery.core.messages import ChatAnswer, Usage
from bloomery.core.quantity import Quantity
from bloomery.evaluate.tasks import Record, Task, questions
from bloomery.evaluate.tasks.record import answered_of, of_answer, of_failure, of_likelihoods, sample_of
from bloomery.evaluate.tasks.rows import Row

TASK = Task(name="t", kind="choice")
ROW = Row({"query": "q", "choices": ["a", "b"], "gold": 1}, "f:1", "f")


def test_a_record_is_read_again():
    (question,) = questions(TASK, [ROW])
    usage = Usage(prompt_tokens=3, completion_tokens=0, energy_joules=Quantity.exact(0.5, "counter"))
    found = [Likelihood(nats=n, tokens=2, greedy=False, usage=usage, seconds=0.25) for n in (-2.0, -1.0)]
    record = of_likelihoods(TASK, question, found)
    assert record.answer == "b" and record.scores["accuracy"] == 1.0 and record.completion_tokens == 0
    assert (record.prompt_tokens, record.seconds, record.energy_joules.central) == (6, 0.5, 1.0)
    assert Record.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_unknown_costs_stay_unknown():
    (question,) = questions(TASK, [ROW])
    answer = ChatAnswer(text="b", finish_reason="stop", usage=Usage(), seconds=1.0, cached=True)
    record = of_answer(question, answer, {"m": 1.0}, {})
    assert record.prompt_tokens is None and not record.energy_joules.known and record.cached
    again = Record.from_dict(record.to_dict())
    assert again == record and "energy_joules" not in record.to_dict()


def test_a_failure_is_told_apart_from_what_the_question_itself_has_to_blame():
    (question,) = questions(TASK, [ROW])
    gone = of_failure(question, {"m": 0.0}, RequestError("no server", hint="is it there?", code="unavailable"))
    assert (gone.error, gone.error_code, gone.failed) == ("no server (is it there?)", "unavailable", True)
    long = of_failure(question, {"m": 0.0}, RequestError("too long", code="context_length_exceeded"))
    assert long.error and not long.failed
    spent = of_failure(question, {"m": 0.0}, BudgetError("spent", name="tokens"))
    assert spent.error_code == "BudgetError" and Record.from_dict(spent.to_dict()) == spent
    assert not Record(id="1", answer="b").failed


def test_a_record_is_a_sample_with_its_answer_again():
    (question,) = questions(TASK, [ROW])
    found = [Likelihood(nats=n, tokens=2, greedy=False) for n in (-2.0, -1.0)]
    record = of_likelihoods(TASK, question, found)
    assert sample_of(record).targets == ("b",) and sample_of(record).choices == question.sample.choices
    answered = answered_of(record)
    assert (answered.sample_id, answered.text, answered.error) == (record.id, "b", "")
    assert answered.details == {
        "log-probabilities": [{"choice": "a", "nats": -2.0, "tokens": 2}, {"choice": "b", "nats": -1.0, "tokens": 2}]
    }
