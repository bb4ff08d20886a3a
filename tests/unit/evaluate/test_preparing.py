"""Preparing: what cannot be judged is an error before anything is asked, and how own rows were read is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.evaluate.preparing import EvaluateConfig, prepare


def task(folder: Path, rows: list[dict[str, Any]], toml: str) -> Path:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "mine.toml").write_text('file = "rows.jsonl"\n' + toml)
    return folder / "mine.toml"


CODE = 'kind = "generation"\nmetrics = ["code"]\n'


def test_code_without_tests_is_an_error_that_names_the_row(tmp_path: Path):
    rows = [{"prompt": "Add.", "tests": "assert add(1, 1) == 2"}, {"prompt": "Subtract."}]
    with pytest.raises(DataError, match=r"rows\.jsonl:2 has no tests") as caught:
        prepare([task(tmp_path, rows, CODE)])
    assert "layouts" in caught.value.hint
    (found,) = prepare([task(tmp_path, rows[:1], CODE)])
    assert found.questions[0].sample.metadata["tests"] == "assert add(1, 1) == 2"


@pytest.mark.parametrize("scorer", ["exact", "f1", "bleu", "rougeL", "numeric", "exact_match"])
def test_a_comparison_needs_what_is_right(tmp_path: Path, scorer: str):
    toml = f'kind = "generation"\nmetrics = ["{scorer}"]\n'
    with pytest.raises(DataError, match=r"rows\.jsonl:1 has no right answer"):
        prepare([task(tmp_path, [{"input": "Why?"}], toml)])


def test_how_own_rows_are_read_is_said(tmp_path: Path):
    (tmp_path / "table.csv").write_text("Question,A,B,Answer\nHot?,yes,no,A\nCold?,yes,no,B\n")
    (found,) = prepare([tmp_path / "table.csv"])
    assert found.task.kind == "choice" and [one.golds for one in found.questions] == [(0,), (1,)]
    assert (
        found.note
        == "table.csv is read as a choice: 'Question' is asked, choices in 'A', 'B', right is 'Answer' (a letter)"
    )
    (tmp_path / "named.toml").write_text(
        'file = "named.csv"\n[columns]\nquestion = "Frage"\nchoices = ["x", "y"]\nanswer = "Loesung"\n'
    )
    (tmp_path / "named.csv").write_text("Frage,x,y,Loesung\nHeiss?,ja,nein,ja\n")
    (named,) = prepare([tmp_path / "named.toml"])
    assert named.questions[0].choices == ("ja", "nein") and "(a text)" in named.note


def test_few_shot_examples_are_read_alike(tmp_path: Path):
    (tmp_path / "q.csv").write_text("Question,A,B,Answer\nHot?,yes,no,A\n")
    (tmp_path / "shots.csv").write_text("Question,A,B,Answer\nCold?,yes,no,B\nWarm?,yes,no,A\n")
    (tmp_path / "q.toml").write_text(
        '[columns]\nquestion = "Question"\nchoices = ["A", "B"]\nanswer = "Answer"\n'
        '[data]\nfiles = ["q.csv"]\nexample_files = ["shots.csv"]\n'
    )
    (found,) = prepare([tmp_path / "q.toml"], EvaluateConfig(few_shot=2))
    assert "Cold? no" in found.questions[0].prompt and "Warm? yes" in found.questions[0].prompt


def test_labels_are_part_of_the_task(tmp_path: Path):
    judge = '[judge]\nmodel = "m"\nscale = ["bad", "good"]\nlabels = "labels.jsonl"\n'
    path = task(tmp_path, [{"input": "Why?"}], judge)
    with pytest.raises(DataError, match="no file of labels"):
        prepare([path])
    (tmp_path / "labels.jsonl").write_text('{"id": 0, "label": "good", "answer": "so"}\n')
    (found,) = prepare([path])
    assert found.labels == (("0", "good", "so"),) and found.task.measured == ("judge",)
    (tmp_path / "labels.jsonl").write_text('{"id": 0, "label": "bad", "answer": "so"}\n')
    assert prepare([path])[0].digest != found.digest
    (tmp_path / "labels.jsonl").write_text('{"id": 0, "label": "fine"}\n')
    with pytest.raises(DataError, match=r"labels\.jsonl:1.*not on the scale"):
        prepare([path])


def test_limits():
    for wrong in ({"limit": 0}, {"few_shot": -1}, {"max_failed": 1.5}):
        with pytest.raises(ConfigError):
            EvaluateConfig(**wrong)
    with pytest.raises(ConfigError, match="which tasks"):
        prepare([])


def test_a_name_that_is_given_twice_is_said(tmp_path: Path):
    (tmp_path / "good.jsonl").write_text('{"input": "Why?", "target": "so"}\n')
    (tmp_path / "good.csv").write_text("input,target\nWhy?,so\n")
    with pytest.raises(ConfigError, match="'good' is named twice") as caught:
        prepare([tmp_path / "good.jsonl", tmp_path / "good.csv"])
    assert "rename one" in caught.value.hint


def test_equal_choices_and_repeated_ids(tmp_path: Path):
    path, row = tmp_path / "own.jsonl", {"query": "Why?", "choices": ["so", "no"], "gold": 0}

    def written(*rows: dict[str, Any]) -> Path:
        path.write_text("".join(json.dumps(one) + "\n" for one in rows))
        return path

    with pytest.raises(DataError, match=r"own\.jsonl:2: the choice 'so' is there twice"):
        prepare([written(row, {**row, "choices": ["so", "no", "so"]})])
    (found,) = prepare([written({**row, "id": 7}, {**row, "id": 7}, {**row, "id": 8})])
    assert "1 row repeats the id of an earlier one: rows of one id count as one cluster" in found.note
    assert [one.sample.cluster for one in found.questions] == ["id 7", "id 7", ""]
    assert not any(one.sample.cluster for one in prepare([written(row, row)])[0].questions)
    toml = '[[layouts]]\nneeds = ["query"]\nprompt = "{{ query }}"\nchoices = "choices"\nanswer = "gold"\nid = "id"\n'
    with pytest.raises(DataError, match=r"rows\.jsonl:2: the id '7' is that of .*rows\.jsonl:1 too"):
        prepare([task(tmp_path, [{**row, "id": 7}, {**row, "id": 7}], 'kind = "choice"\n' + toml)])
