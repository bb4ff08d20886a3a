"""Where a task's files are found: a person's, Hugging Face's layout, a stand-in that is said, or an error."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.evaluate.tasks.places import examples, folders, questions
from bloomery.evaluate.tasks.task import Task, TaskData

DATA = TaskData(
    files=("mine.jsonl", "set.tar.xz/inner/*.jsonl"),
    stand_ins=("train.jsonl",),
    example_files=("shots.jsonl",),
    hub="owner/set",
    config="small",
    split="test",
    example_split="train",
)
TASK = Task(name="set", data=DATA)


def write(path: Path, *names: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"n": name}) + "\n" for name in names))


def found(folder: Path, what=questions) -> list[str]:
    return [row.values["n"] for row in what(TASK, (folder,)).rows()]


def test_the_first_pattern_that_fits(tmp_path: Path):
    write(tmp_path / "train.jsonl", "stand-in")
    told = questions(TASK, (tmp_path,))
    assert "stands in" in told.note and found(tmp_path) == ["stand-in"]
    write(tmp_path / "set" / "small" / "data" / "test-00000-of-00001.jsonl", "hub")
    assert found(tmp_path) == ["hub"] and not questions(TASK, (tmp_path,)).note
    with tarfile.open(tmp_path / "set.tar.xz", "w:xz") as tar:
        for name in ("inner/b.jsonl", "inner/a.jsonl", "other/c.jsonl"):
            data = json.dumps({"n": name}).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert found(tmp_path) == ["inner/a.jsonl", "inner/b.jsonl"]
    write(tmp_path / "mine.jsonl", "mine")
    assert found(tmp_path) == ["mine"]


def test_whole_paths_and_names_that_look_like_patterns(tmp_path: Path):
    write(tmp_path / "data" / "part[1].jsonl", "one")
    for pattern in ("part[1].jsonl", str(tmp_path / "data" / "part[1].jsonl"), str(tmp_path / "data" / "p*.jsonl")):
        task = Task(name="own", data=TaskData(files=(pattern,)), folder=str(tmp_path / "data"))
        assert [row.values["n"] for row in questions(task, ()).rows()] == ["one"]
    with pytest.raises(DataError, match="no data"):
        questions(Task(name="own", data=TaskData(files=(str(tmp_path / "none.jsonl"),)), folder=str(tmp_path)), ())


@pytest.mark.parametrize("folder", ["owner/set", "owner___set", "owner--set", "set"])
def test_hugging_faces_layout(tmp_path: Path, folder: str):
    """Configurations by README.md, as the hub's datasets have them."""
    root = tmp_path / folder
    for split in ("test", "train"):
        write(root / "files" / f"{split}.jsonl", split)
    configs = "".join(f"  - split: {one}\n    path: files/{one}.jsonl\n" for one in ("test", "train"))
    (root / "README.md").write_text(f"---\nconfigs:\n- config_name: small\n  data_files:\n{configs}---\n# A set\n")
    assert found(tmp_path) == ["test"] and found(tmp_path, examples) == ["train"]


def test_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(DataError) as caught:
        questions(TASK, (tmp_path,))
    assert "mine.jsonl" in caught.value.one_line() and "--data" in caught.value.hint
    with pytest.raises(DataError):
        examples(TASK, (tmp_path,))
    with pytest.raises(ConfigError, match="no examples"):
        examples(Task(name="set", data=TaskData(files=("mine.jsonl",))), (tmp_path,))
    with pytest.raises(ConfigError):
        folders(tmp_path / "nowhere")
    monkeypatch.delenv("BLOOMERY_DATA", raising=False)
    assert folders() == ()
    (tmp_path / "eval").mkdir()
    monkeypatch.setenv("BLOOMERY_DATA", str(tmp_path))
    assert folders() == folders(tmp_path) == (tmp_path / "eval", tmp_path)
