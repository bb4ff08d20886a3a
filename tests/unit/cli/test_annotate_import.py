"""`bloomery annotate import`: people's answers, once; what makes no sense is told."""

from __future__ import annotations

import json
from pathlib import Path


def exported(call, spam_home, tmp_path: Path, labels: dict[str, str]) -> Path:
    """An export in which each of these people has said one thing of every task."""
    home = ("--home", str(spam_home.home), "--quiet")
    tasks = json.loads(call("annotate", "export", str(spam_home.rules), "--split", "test", *home).out)
    for task in tasks:
        task["annotations"] = [
            {
                "id": number,
                "completed_by": {"email": who},
                "lead_time": 2.0,
                "result": [
                    {"from_name": "answer", "to_name": "text", "type": "choices", "value": {"choices": [label]}}
                ],
            }
            for number, (who, label) in enumerate(labels.items())
        ]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    return path


def test_answers_are_kept_once(call, spam_home, tmp_path: Path):
    question = tmp_path / "q.toml"
    question.write_text(
        spam_home.rules.read_text().split("[[function]]")[0].replace('"spam"\nkind', '"imported"\nkind')
    )
    path = exported(call, spam_home, tmp_path, {"anna": "ham", "bert": "spam"})
    command = ("annotate", "import", str(question), str(path), "--home", str(spam_home.home), "--json")
    first, second = (json.loads(call(*command).out) for _ in range(2))
    assert first["new"] == first["answers"] > 40 and second["new"] == 0 and not first["skipped"]
    said = call(
        "annotate", "show", "imported", "--hour-price", "18", "--currency", "EUR", "--home", str(spam_home.home)
    )
    assert "anna (person)" in said.out and "money 0.01 EUR" in said.out and "energy unknown" in said.out


def test_what_is_no_answer(call, spam_home, tmp_path: Path):
    path = exported(call, spam_home, tmp_path, {"anna": "eggs"})
    command = ("annotate", "import", str(spam_home.rules), str(path), "--home", str(spam_home.home))
    found = call(*command)
    assert found.code == 0 and "skipped, no answer" in found.out and "the first: " in found.err
    assert "no answer" in call.mistake(*command, "--strict")
    assert "no list of Label Studio's tasks" in call.mistake(*command[:3], str(_csv(tmp_path)), *command[4:])


def _csv(folder: Path) -> Path:
    (folder / "x.json").write_text('[{"text": "a", "answer": "ham"}]')
    return folder / "x.json"
