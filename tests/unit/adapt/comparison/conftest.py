"""A small task with documents, and one comparison of it with a tiny model, made once for all tests that read it."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from bloomery.adapt.comparison.compare import compare
from bloomery.adapt.comparison.task import Task, read_task
from bloomery.core.artifact import Artifact
from bloomery.core.workspace import Workspace

_GOOD, _BAD = ("iron", "furnace", "built"), ("wet", "cold", "broken")


def write_task(folder: Path, model: str, **settings: object) -> Path:
    """A task file with its samples and documents; `settings` are keys of its top table."""
    rng = random.Random(0)
    rows = []
    for number in range(170):
        label = rng.choice(("yes", "no"))
        words = _GOOD if label == "yes" else _BAD
        text = f"{rng.choice(words)} {number} {rng.choice(words)}"
        rows.append({"input": text, "target": label, "passage": f"p{number % 90}"})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    documents = [
        {"id": str(n), "text": f"{word} means {'yes' if word in _GOOD else 'no'}."}
        for n, word in enumerate((*_GOOD, *_BAD))
    ]
    (folder / "documents.jsonl").write_text("\n".join(json.dumps(one) for one in documents), encoding="utf-8")
    told = {
        "name": "small",
        "samples": "rows.jsonl",
        "documents": "documents.jsonl",
        "choices": ["yes", "no"],
        "instruction": "Say yes or no.",
        "max_new_tokens": 4,
        **settings,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in told.items()]
    tables = f"[model]\nname = {json.dumps(model)}\n[split]\nmax_dev = 20\nmax_test = 24\nmax_train = 60\n"
    path = folder / "task.toml"
    path.write_text("\n".join([*lines, tables, "[budget]\nprocessor_seconds = 60\n"]), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Made:
    """A comparison with what it was made from, and what was said."""

    artifact: Artifact
    task: Task
    path: Path
    workspace: Workspace
    said: tuple[str, ...]


@pytest.fixture(scope="session")
def made(make_model, tmp_path_factory) -> Made:
    """Five arms on a tiny model."""
    folder = tmp_path_factory.mktemp("comparison")
    path = write_task(
        folder / "task",
        str(make_model(context=512, hidden=16).path),
        arms=["majority", "classic", "zero-shot", "rag", "lora"],
    )
    workspace, said = Workspace(folder / "home"), []
    task = read_task(path)
    artifact = compare(task, workspace=workspace, say=said.append)
    return Made(artifact, task, path, workspace, tuple(said))
