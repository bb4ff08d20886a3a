"""`bloomery evaluate`: a table, JSON, another model beside it, tasks of one's own, and one line for every mistake."""

from __future__ import annotations

import json


def test_a_task_of_ones_own(call, tiny, tmp_path):
    rows = [{"query": f"term{n}", "choices": ["term2 term3", "term4"], "gold": n % 2} for n in range(8)]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "free.csv").write_text("input,target\nterm1 term2,term3\nterm4,term5\n")
    model = call("runs", "--json", "--home", str(tiny.home))
    assert model.code == 0
    command = ["evaluate", "", "--task", str(tmp_path / "mine.jsonl"), "--task", str(tmp_path / "free.csv")]
    folder = next((tiny.home / "artifacts").glob("model-*"))
    command[1] = folder.name
    home = ["--home", str(tiny.home), "--quiet"]
    found = json.loads(call(*command, "--json", *home).out)
    choice, free = found["tasks"]
    assert found["kind"] == "evaluation" and choice["samples"] == 8 and free["samples"] == 2
    figure = choice["metrics"]["accuracy"]
    assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1 and figure["method"] == "Wilson"
    assert free["metrics"]["exact_match"]["samples"] == 2
    assert "contamination" in choice  # the model's corpus is known
    printed = call(*command, *home).out
    assert "accuracy" in printed and "95% interval" in printed and "training corpus" in printed
    pages = tmp_path / "pages"
    beside = call(*command, "--limit", "6", "--against", folder.name, "--html", str(pages), *home).out
    assert "term2 term3" in (pages / "mine.html").read_text() and (pages / "free.html").is_file()
    assert "not distinguishable at n = 6" in beside


def test_the_list_of_tasks(call):
    names = [one["name"] for one in json.loads(call("evaluate", "--list", "--json").out)]
    assert "arc_easy" in names and names == sorted(names)
    assert "BLiMP" in call("evaluate", "--list").out


def test_mistakes(call, tiny, tmp_path, monkeypatch):
    monkeypatch.delenv("BLOOMERY_DATA", raising=False)
    model = next((tiny.home / "artifacts").glob("model-*")).name
    home = ["--home", str(tiny.home), "--quiet"]
    assert "which model" in call.mistake("evaluate")
    assert "which tasks" in call.mistake("evaluate", model, *home)
    assert "arc_easy" in call.mistake("evaluate", model, "arc_eesy", *home)
    assert "--data" in call.mistake("evaluate", model, "arc_easy", *home)
    assert "nowhere" in call.mistake("evaluate", model, "arc_easy", "--data", str(tmp_path / "nowhere"), *home)
    assert "is a folder" in call.mistake("evaluate", model, "--task", str(tmp_path), *home)
    assert "no file" in call.mistake("evaluate", model, "--task", str(tmp_path / "absent.csv"), *home)
    (tmp_path / "other.jsonl").write_text('{"input": "a", "goal": "b"}')
    named = call.mistake("evaluate", model, "--task", str(tmp_path / "other.jsonl"), *home)
    assert "lacks" in named and "there is: input, goal" in named
    (tmp_path / "bad.jsonl").write_text('{"query": "a", "choices": ["b", "c"], "gold": 7}')
    assert "bad.jsonl:1" in call.mistake("evaluate", model, "--task", str(tmp_path / "bad.jsonl"), *home)
    assert "limit" in call.mistake("evaluate", model, "arc_easy", "--limit", "0", *home)
    refused = call.mistake("evaluate", "http://127.0.0.1:9/v1#m", "--task", str(tmp_path / "bad.jsonl"), *home)
    assert "bad.jsonl:1" in refused


def test_why_there_is_no_answer(call, tiny, tmp_path):
    (tmp_path / "long.csv").write_text(f"input,target\n{'term1 ' * 3000},term2\n")
    model = next((tiny.home / "artifacts").glob("model-*")).name
    told = call("evaluate", model, "--task", str(tmp_path / "long.csv"), "--home", str(tiny.home), "--quiet").out
    assert "1 without an answer (" in told and "context" in told
