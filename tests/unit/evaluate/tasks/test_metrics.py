"""Metrics: lm-evaluation-harness's own results on the same log-probabilities, and intervals around them."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bloomery.core.likelihood import Likelihood
from bloomery.evaluate.tasks import Record, Task, by_group, figures, questions
from bloomery.evaluate.tasks.metrics import likelihood_scores, of_values
from bloomery.evaluate.tasks.rows import Row

METRICS = ("accuracy", "accuracy_by_characters", "accuracy_by_bytes", "mass_of_right")


def scored(choices: list[str], gold: Any, nats: list[float]) -> dict[str, float]:
    task = Task(name="t", kind="choice", metrics=METRICS)
    (question,) = questions(task, [Row({"query": "q", "choices": choices, "gold": gold}, "f:1", "f")])
    return likelihood_scores(task, question, [Likelihood(nats=n, tokens=1, greedy=False) for n in nats])


def test_choices_are_scored_as_lm_eval_scores_them():
    rng = random.Random(0)
    for _ in range(200):
        choices = ["é" * rng.randint(1, 9) + "x" * rng.randint(1, 9) + str(n) for n in range(4)]
        nats = [-rng.uniform(1, 30) for _ in choices]
        gold = rng.randrange(4)
        # ConfigurableTask.process_results: argmax of lls, of lls over characters, and over bytes.
        lls = np.array(nats)
        found = scored(choices, gold, nats)
        assert found["accuracy"] == float(lls.argmax() == gold)
        assert found["accuracy_by_characters"] == float((lls / [len(one) for one in choices]).argmax() == gold)
        assert found["accuracy_by_bytes"] == float((lls / [len(one.encode()) for one in choices]).argmax() == gold)


def test_mass_of_right_is_lm_evals():
    from lm_eval.tasks.truthfulqa.utils import process_results_mc2

    nats, labels = [-3.0, -5.0, -4.0, -900.0], [1, 0, 1, 0]
    found = scored(["a", "b", "c", "d"], [0, 2], nats)["mass_of_right"]
    theirs = process_results_mc2({"mc2_targets": {"labels": labels}}, [(n, False) for n in nats])["acc"]
    assert found == pytest.approx(theirs)
    assert scored(["a", "b"], [0], [-2000.0, -2001.0])["mass_of_right"] == pytest.approx(1 / (1 + math.exp(-1)))


def test_perplexities_are_lm_evals():
    from lm_eval.api.metrics import bits_per_byte, perplexity, weighted_perplexity

    rng = random.Random(1)
    texts = [" ".join("wört" for _ in range(rng.randint(2, 9))) for _ in range(20)]
    task = Task(name="t", kind="text")
    records, items = [], []
    for place, text in enumerate(texts):
        (question,) = questions(task, [Row({"text": text}, f"f:{place}", "f")])
        nats = -rng.uniform(5, 50)
        scores = likelihood_scores(task, question, [Likelihood(nats=nats, tokens=5, greedy=False)])
        records.append(Record(id=str(place), scores=scores))
        items.append((nats, len(text.split()), len(text.encode())))
    found = figures(task, records, task.measured)
    assert found["word_perplexity"].value == pytest.approx(weighted_perplexity([(n, w) for n, w, _ in items]))
    assert found["byte_perplexity"].value == pytest.approx(weighted_perplexity([(n, b) for n, _, b in items]))
    assert found["bits_per_byte"].value == pytest.approx(bits_per_byte([(n, b) for n, _, b in items]))
    last = Task(name="t", kind="last_word")
    words = [
        Record(id=str(n), scores={"accuracy": 0.0, "nats": nats, "answers": 1.0}) for n, (nats, *_) in enumerate(items)
    ]
    one = figures(last, words, ["perplexity"])["perplexity"]
    assert one.value == pytest.approx(perplexity([nats for nats, *_ in items]))
    # The mean of nats has the normal interval, and perplexity is its exponential.
    values = np.array([-nats for nats, *_ in items])
    low, high = stats.norm.interval(0.95, values.mean(), values.std(ddof=1) / math.sqrt(len(values)))
    assert (one.low, one.high) == pytest.approx((math.exp(low), math.exp(high)), rel=1e-5)


def test_groups():
    task = Task(name="t", kind="choice", groups="mean")
    records = [
        Record(id=f"{g}{n}", group=g, scores={"accuracy": float(n < k)})
        for g, k, m in (("a", 9, 10), ("b", 2, 4))
        for n in range(m)
    ]
    whole = figures(task, records, ["accuracy"])["accuracy"]
    assert whole.value == pytest.approx((0.9 + 0.5) / 2) and whole.samples == 14
    pooled = figures(Task(name="t", kind="choice", groups="pooled"), records, ["accuracy"])["accuracy"]
    assert pooled.value == pytest.approx(11 / 14) and pooled.method == "Wilson"
    assert {name: own["accuracy"].value for name, own in by_group(task, records, ["accuracy"]).items()} == {
        "a": 0.9,
        "b": 0.5,
    }


def test_several_questions_in_a_sample_count_each():
    task = Task(name="t", kind="generation", metrics=("each",))
    parts = [[1.0, 0.0, 1.0], [1.0], [0.0, 0.0]]
    records = [
        Record(id=str(n), scores={"each": sum(p) / len(p)}, details={"each": {"parts": p}}) for n, p in enumerate(parts)
    ]
    found = figures(task, records, ["each"])["each"]
    assert found.value == pytest.approx(3 / 6) and found.samples == 3 and "CR2" in found.method


def test_a_single_sample_has_no_spread():
    assert of_values([0.3]).low is None and of_values([1.0]).low is not None
    assert of_values([1.0, 0.0], ["a", "a"]).low is None


def test_an_interval_that_may_be_too_short_says_so():
    """Cochran's rule: one value of 30 that is not 0 leans by far more than 30 values make good."""
    assert "too short" in of_values([0.0] * 29 + [0.5]).caution and of_values([0.4, 0.5, 0.6] * 10).caution == ""
