"""SQuAD's measures: those of the data set's own script, as lm-eval carries a copy of it, and by hand."""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path

import pytest

from bloomery.evaluate.sample import Answered, Sample
from bloomery.evaluate.scorers import Squad, squad_exact, squad_f1

PAIRS = [
    ("the Denver Broncos", "Denver Broncos"),
    ("Denver", "Denver Broncos"),
    ("In 1976, the", "1976"),
    ("", ""),
    ("", "x"),
    ("a", "the"),
    ("U.S.A.", "USA"),
    ("a b a b", "a b b c"),
    ("l'été", "L’été"),
    ("word word", "word"),
]


@pytest.mark.parametrize("answer, target", PAIRS)
def test_is_the_scripts(answer: str, target: str):
    found = importlib.util.find_spec("lm_eval")
    if found is None or found.origin is None:
        pytest.skip("lm-eval is not installed")
    script = runpy.run_path(str(Path(found.origin).parent / "tasks" / "qasper" / "metrics.py"))
    same = script["normalize_answer"](answer) == script["normalize_answer"](target)
    assert squad_exact(answer, target) == same
    # version 1.1's F1 of two answers that are nothing but articles is 0; version 2.0 gives 1 where both are empty
    wanted = script["f1_abstractive"]([answer], [target]) or float(same and not script["normalize_answer"](answer))
    assert squad_f1(answer, target) == pytest.approx(wanted, abs=1e-15)


def test_by_hand():
    """Two of three words common to three and two: precision 2/3, recall 1."""
    assert squad_f1("the old Denver Broncos", "Denver Broncos") == pytest.approx(0.8)
    assert squad_exact("The Denver Broncos!", "denver broncos") == 1


def test_the_best_target_counts_and_nothing_may_be_right():
    sample = Sample(id="s", input="?", targets=("Denver Broncos", "Broncos"))
    assert Squad().score(sample, Answered(sample_id="s", text="the Broncos")).value == 1
    assert Squad(measure="exact").score(sample, Answered(sample_id="s", text="Denver")).value == 0
    unanswerable = Sample(id="s", input="?", targets=("",))
    assert Squad().score(unanswerable, Answered(sample_id="s", text="")).value == 1
    assert Squad().score(unanswerable, Answered(sample_id="s", text="", error="gone")).value == 0
