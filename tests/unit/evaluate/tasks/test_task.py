"""Tasks as files: every built-in one is sound, a person's own is a line, mistakes are told with the nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest

from bloomery.core.errors import BloomeryError, ConfigError
from bloomery.evaluate.scorers import make_scorer
from bloomery.evaluate.tasks import built_in, find_task, read_task
from bloomery.evaluate.tasks import scoring as _scoring  # noqa: F401 - registers what tasks name
from bloomery.evaluate.tasks.task import METRICS

WANTED = {
    *("arc_challenge", "arc_easy", "blimp", "boolq", "copa", "gsm8k", "hellaswag", "humaneval", "ifeval", "lambada"),
    *("mmlu", "piqa", "squad", "svamp", "triviaqa", "truthfulqa_mc1", "truthfulqa_mc2", "winogrande"),
}


@pytest.mark.parametrize("name", sorted(built_in()))
def test_built_in_tasks_are_whole(name: str):
    task = find_task(name)
    assert task.name == name and task.title and task.licence and task.source and task.layouts
    assert task.data.files or task.data.hub
    for layout in task.layouts:
        assert layout.needs and (layout.answer or layout.target or task.kind == "generation")
    for metric in task.measured:
        if task.kind == "generation":
            options = dict(task.options.get(metric, {}))
            for key in ("pattern", "take"):
                options.pop(key, None)
            assert make_scorer({"name": options.pop("scorer", metric), **options}).name
        else:
            assert metric in METRICS[task.kind]


def test_there_are_the_tasks_that_people_ask_for():
    assert set(built_in()) >= WANTED


def test_a_task_of_ones_own_is_a_line(tmp_path: Path):
    (tmp_path / "mine.jsonl").write_text('{"query": "q", "choices": ["a", "b"], "gold": 1}\n')
    (tmp_path / "mine.toml").write_text('file = "mine.jsonl"\n')
    task = read_task(tmp_path / "mine.toml")
    assert (task.name, task.kind, task.data.files, task.folder) == ("mine", "choice", ("mine.jsonl",), str(tmp_path))
    assert find_task(tmp_path / "mine.jsonl").kind == "choice"
    (tmp_path / "free.csv").write_text("input,target\nq,a\n")
    assert find_task(str(tmp_path / "free.csv")).measured == ("exact_match",)
    (tmp_path / "text.jsonl").write_text('{"text": "so"}\n')
    assert find_task(tmp_path / "text.jsonl").kind == "text"


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("titel = 1", "title"),
        ('kind = "choise"', "choice"),
        ('metrics = ["acuracy"]', "accuracy"),
        ("few_shot = -1", "few_shot"),
        ('name = "../../mine"', "no name of a task"),
        ('name = "javascript:alert(1)"', "no name of a task"),
        ("[[layouts]]\nneeds = 3", "needs"),
        ("kind = ", "TOML"),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, toml: str, said: str):
    (tmp_path / "mine.toml").write_text(toml)
    with pytest.raises(BloomeryError) as caught:
        find_task(tmp_path / "mine.toml")
    assert said in caught.value.one_line() and "\n" not in caught.value.one_line()


def test_a_name_that_is_none():
    with pytest.raises(ConfigError) as caught:
        find_task("arc_eesy")
    assert "arc_easy" in caught.value.hint
    with pytest.raises(ConfigError):
        find_task("nowhere.toml")
