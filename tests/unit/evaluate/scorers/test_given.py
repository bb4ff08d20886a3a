"""Every scorer gives nothing for an answer that failed or is empty, and never raises."""

from __future__ import annotations

import pytest

from bloomery.evaluate.sample import Answered, Sample
from bloomery.evaluate.scorers import make_scorer
from bloomery.evaluate.scorers.given import nothing, without_target

NAMES = [
    *("exact", "includes", "choice", "numeric", "f1", "squad_exact", "bleu", "chrf", "chrf++", "rouge1", "rougeL"),
    *("json_schema", "code", {"name": "pattern", "pattern": "a(b)"}),
]
SAMPLE = Sample(id="s", input="?", targets=("b",), choices=("a", "b"), metadata={"tests": "assert False"})
HOSTILE = [
    "\x00",
    "\udcff",
    "{" * 5000,
    "9" * 5000,
    "```" * 1000,
    "(" * 3000,
    "\\boxed{" * 500,
    "1e999999",
    "answer " * 9000,
]


@pytest.mark.parametrize("name", NAMES, ids=str)
def test_what_failed_is_worth_nothing(name: object):
    scorer = make_scorer(name)  # type: ignore[arg-type]
    for answered in (Answered(sample_id="s", text="", error="gone"), Answered(sample_id="s", text=" \n")):
        found = scorer.score(SAMPLE, answered)
        assert found.value == 0 and found.sample_id == "s" and found.scorer == scorer.name
    bare = Sample(id="n", input="?")
    found = scorer.score(bare, Answered(sample_id="n", text="{}"))  # which is JSON, and no answer to anything else
    assert found.value == float(name == "json_schema") and (found.why != "") == (name != "json_schema")


@pytest.mark.parametrize("name", NAMES, ids=str)
def test_nothing_raises(name: object):
    scorer = make_scorer(name)  # type: ignore[arg-type]
    for text in HOSTILE:
        assert 0 <= scorer.score(SAMPLE, Answered(sample_id="s", text=text)).value <= 1


def test_words():
    assert nothing("x", SAMPLE, Answered(sample_id="s", text="a")) is None
    assert without_target("x", SAMPLE).why == "the sample has no target"
