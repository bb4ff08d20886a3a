"""Rows as questions: examples that depend on seed and row alone, groups, clusters, and rows that are none.

That prompts equal lm-evaluation-harness's is shown in tests/clients/test_lm_eval.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from bloomery.core.errors import BloomeryError, ConfigError, DataError
from bloomery.core.likelihood import Pair
from bloomery.evaluate.tasks import Task, find_task, limited, questions
from bloomery.evaluate.tasks.rows import Row

OWN = Task(name="own", kind="choice")


def rows(*values: dict[str, Any]) -> list[Row]:
    return [Row(one, f"mine.jsonl:{n}", "mine") for n, one in enumerate(values, 1)]


def row(n: int, **more: Any) -> dict[str, Any]:
    return {"query": f"q{n}", "choices": [f"a{n}", f"b{n}"], "gold": n % 2, **more}


def test_a_choice():
    (found,) = questions(OWN, rows({"query": "Why?", "choices": ["so", "no", "so"], "gold": 2}))
    assert found.pairs == (Pair("Why?", " so"), Pair("Why?", " no"), Pair("Why?", " so"))
    assert found.golds == (2,) and found.choices == ("so", "no", "so") and found.sample.choices == ("so", "no")
    assert found.sample.targets == ("so",) and found.sample.metadata["where"] == "mine.jsonl:1"
    assert "Why?" in found.texts
    (by_text,) = questions(OWN, rows({"question": "Why?", "choices": ["so", "no"], "answer": "no"}))
    assert by_text.golds == (1,)


def test_examples_depend_on_seed_and_row_alone():
    train, test = rows(*map(row, range(100, 130))), rows(*map(row, range(5)))
    how: dict[str, Any] = {"examples": train, "few_shot": 3}
    first = [one.prompt for one in questions(OWN, test, seed=1, **how)]
    assert first == [one.prompt for one in questions(OWN, test, seed=1, **how)]
    assert first != [one.prompt for one in questions(OWN, test, seed=2, **how)]
    assert first[:2] == [one.prompt for one in questions(OWN, test[:2], seed=1, **how)]
    assert all(text.count("\n\n") == 3 and text.endswith(f"\n\nq{n}") for n, text in enumerate(first))
    assert len({text.partition("\n\n")[0] for text in first}) > 1
    itself = next(questions(OWN, test[:1], examples=test, few_shot=4))
    assert itself.prompt.count("q0") == 1  # never the question itself
    with pytest.raises(ConfigError, match="5 examples"):
        list(questions(OWN, test, examples=test, few_shot=6))


def test_groups_have_their_own_examples_and_limits():
    task = find_task("mmlu")
    each = {"choices": ["w", "x", "y", "z"], "answer": 1}
    values = [{"question": f"{s}{n}", "subject": s, **each} for s in ("law", "high_art") for n in range(3)]
    found = list(questions(task, rows(*values), examples=rows(*values), few_shot=2))
    assert "about high art.\n\nhigh_art0" in found[5].prompt and "law" not in found[5].prompt
    assert found[0].prompt.startswith("The following are multiple choice questions (with answers) about law.\n\nlaw1")
    assert [one.values["question"] for one in limited(task, rows(*values), 1)] == ["law0", "high_art0"]
    assert [one.values["question"] for one in limited(OWN, rows(*values), 1)] == ["law0"]


def test_passages_are_clusters():
    boolq = find_task("boolq")
    passage = "A long passage about iron " * 5
    found = list(questions(boolq, rows(*({"passage": passage, "question": str(n), "label": n % 2} for n in range(2)))))
    assert found[0].sample.cluster == found[1].sample.cluster != "" and len(found[0].sample.cluster) <= 40


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"query": "a"}, "lacks"),
        ({"query": "a", "choices": ["b"], "gold": 0}, "two texts"),
        ({"query": "a", "choices": ["b", ""], "gold": 0}, "two texts"),
        ({"query": "a", "choices": "bc", "gold": 0}, "two texts"),
        ({"query": "a", "choices": ["b", "c"], "gold": 2}, "place"),
        ({"query": "a", "choices": ["b", "c"], "gold": True}, "place"),
        ({"query": "a", "choices": ["b", "c"], "gold": "d"}, "place"),
        ({"query": "a", "choices": ["b", "c"], "gold": []}, "right"),
    ],
)
def test_what_is_no_question(value: dict[str, Any], said: str):
    with pytest.raises(BloomeryError) as caught:
        list(questions(OWN, rows(row(1), value)))
    assert "mine.jsonl:2" in caught.value.one_line() and said in caught.value.one_line()
    assert "\n" not in caught.value.one_line()


def test_free_answers_have_targets():
    free = Task(name="free", kind="generation")
    (found,) = questions(free, rows({"input": "2+2=", "target": 4}))
    assert found.sample.targets == ("4",) and found.prompt == "2+2=" and not found.pairs
    (several,) = questions(free, rows({"input": "x", "targets": ["a", "b"]}))
    assert several.sample.targets == ("a", "b")
    with pytest.raises(DataError):
        list(questions(free, rows({"input": "x", "targets": []})))
