"""`bloomery annotate export`: tasks and the interface."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree


def test_tasks_with_what_rules_said(call, spam_home, tmp_path: Path):
    home = ("--home", str(spam_home.home), "--quiet")
    assert call("annotate", "rules", str(spam_home.rules), *home).code == 0
    out = tmp_path / "tasks.json"
    found = call("annotate", "export", "spam", "--out", str(out), "--sample", "5", "--order", "unsure", *home)
    assert found.code == 0 and "5 tasks" in found.err and not found.out
    tasks = json.loads(out.read_text())
    scores = [task["predictions"][0]["score"] for task in tasks]
    assert len(tasks) == 5 and scores == sorted(scores) and tasks[0]["data"]["metadata"]["kind"]
    whole = json.loads(call("annotate", "export", "spam", "--split", "test", *home).out)
    assert len(whole) > 20 and all(task["annotations"] == [] for task in whole)


def test_the_interface(call, spam_home):
    found = call("annotate", "export", str(spam_home.rules), "--interface", "--home", str(spam_home.home))
    assert [one.get("value") for one in ElementTree.fromstring(found.out).iter("Choice")] == ["ham", "spam"]
