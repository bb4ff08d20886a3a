"""`bloomery compare`: a verdict for people and for scripts, the winner alone, and mistakes in one line."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def task(tmp_path):
    rows = [{"text": f"{'iron' if n % 3 else 'wood'} {n} burns", "label": "no" if n % 3 else "yes"} for n in range(160)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    path = tmp_path / "task.toml"
    path.write_text(
        'samples = "rows.jsonl"\ninput = "text"\ntarget = "label"\nchoices = ["yes", "no"]\n'
        'arms = ["majority", "classic"]\n',
        encoding="utf-8",
    )
    return path


def test_a_verdict_and_the_winner_alone(call, task, tmp_path):
    where = ("--home", str(tmp_path / "home"))
    told = call("compare", str(task), *where)
    assert "classic is better than majority" in told.out and "classic *" in told.out and "report.html" in told.out
    assert "before the run" in told.err
    result = json.loads(call("compare", str(task), *where, "--json").out)
    assert result["kind"] == "comparison" and result["result"]["recommended"] == "classic"
    recipe = f"{result['path']}/winner.toml"
    built = json.loads(call("compare", recipe, "--rebuild", *where, "--json").out)
    assert built["kind"] == "arm" and built["same_settings"] is True and built["answers"] == []
    assert call("compare", recipe, "--ask", "wood burns", "--ask", "iron burns", *where).out.split() == ["yes", "no"]
    assert "classic: " in call("compare", recipe, "--rebuild", *where).out


def test_mistakes(call, task, tmp_path):
    where = ("--home", str(tmp_path / "home"))
    assert "no task at" in call.mistake("compare", str(tmp_path / "gone.toml"), *where)
    assert 'unknown key "sed"' in call.mistake("compare", str(task), "--set", "sed=3", *where)
    assert "no samples at" in call.mistake("compare", str(task), "--set", "samples=gone.jsonl", *where)
    assert "one arm" in call.mistake("compare", str(task), "--rebuild", *where)
    assert "metric" in call.mistake("compare", str(task), "--set", "metric=exactly", *where)
