"""`bloomery curate`, and what is said of bad documents."""

from __future__ import annotations

import json
from pathlib import Path


def test_json_has_counts(call, tiny, tmp_path: Path):
    answer = call("curate", str(tiny.texts), "--home", str(tmp_path / "h"), "--json", "--quiet")
    made = json.loads(answer.out)
    assert made["kind"] == "corpus"
    metrics = made["metrics"]
    assert sum(metrics["documents"].values()) + sum(metrics["dropped"].values()) == 80


def test_text_has_counts(call, tiny, tmp_path: Path):
    answer = call("curate", str(tiny.texts), "--home", str(tmp_path / "h"), "--quiet")
    assert answer.code == 0 and "train: " in answer.out and "documents" in answer.out


def test_a_binary_file_given_as_text(call, tmp_path: Path):
    path = tmp_path / "picture.txt"
    path.write_bytes(bytes(range(256)) * 100)
    line = call.mistake("curate", str(path), "--home", str(tmp_path / "h"))
    assert "picture.txt" in line


def test_nothing_there(call, tmp_path: Path):
    assert "no-such" in call.mistake("curate", str(tmp_path / "no-such"), "--home", str(tmp_path / "h"))
    assert "*.md" in call.mistake("curate", str(tmp_path / "*.md"), "--home", str(tmp_path / "h"))
