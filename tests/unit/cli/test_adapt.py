"""`bloomery adapt`: tuned, asked with its adapter, merged, asked again; and what is wrong, in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bloomery.cli.adapt import adapted_lines
from bloomery.cli.serve import found_adapter
from bloomery.core.workspace import Workspace

SHORT = [
    *("--set", "adapt.fit.steps=4"),
    *("--set", "adapt.fit.batch_rows=4"),
    *("--set", "adapt.fit.device=cpu"),
    *("--set", "adapt.fit.learning_rate=0.01"),
    *("--set", "adapt.context_length=32"),
    *("--set", "adapt.sample_tokens=4"),
    *("--set", "adapt.samples=1"),
]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("adapt") / "rows.jsonl"
    made = [{"prompt": f"term{n} ", "completion": f"term{n % 7}"} for n in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def test_tuned_asked_merged(call, tiny, rows, tmp_path):
    where = ("--home", str(tiny.copy(tmp_path / "home")))
    model = json.loads(call("runs", "--json", *where).out)
    base = next(one["artifact"] for one in model if one["stage"] == "pretrain")
    made = json.loads(call("adapt", base, str(rows), *SHORT, *where, "--json").out)
    assert made["kind"] == "adapter" and made["metrics"]["method"] == "lora" and made["metrics"]["steps"] == 4
    told = call("adapt", base, str(rows), *SHORT, *where).out
    assert made["name"] in told and "validation nats per token" in told and "before" in told and "asked " in told
    asked = ("generate", "term1", "--temperature", "0", "--max-new-tokens", "4", "--json", *where)
    adapted = json.loads(call(*asked, "--adapter", made["name"]).out)
    workspace = Workspace(tmp_path / "home")
    text, of = found_adapter(f"mine={made['name']}", workspace)
    assert text == f"mine={made['path']}" and workspace.find(of).id == base
    assert found_adapter(made["name"], workspace)[0] == f"{made['name']}={made['path']}"
    assert found_adapter("mine=/not/there", workspace) == ("mine=/not/there", "")
    merged = json.loads(call("adapt", "merge", made["name"], *where, "--json").out)
    assert merged["kind"] == "model"
    again = json.loads(call(*asked, "--model", merged["name"]).out)
    assert again["token_ids"] == adapted["token_ids"]
    full = json.loads(call("adapt", base, str(rows), "--method", "full", *SHORT, *where, "--json").out)
    assert full["kind"] == "model"
    assert "not an adapter" in call.mistake("adapt", "merge", full["name"], *where)
    assert "not an adapter" in call.mistake(*asked, "--adapter", full["name"])


def test_mistakes(call, tiny, rows, tmp_path):
    where = ("--home", str(tiny.home))
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"text": "a"}\n{\n')
    assert "broken.jsonl line 2 is no JSON" in call.mistake("adapt", "latest", str(broken), *where)
    assert 'unknown key "adapt.lora.rank"' in call.mistake(
        "adapt", "x", str(rows), "--set", "adapt.lora.rank=3", *where
    )
    assert 'did you mean "lora"' in call.mistake("adapt", "x", str(rows), "--method", "lorra", *where)


def test_lines_are_short():
    sample = dict.fromkeys(("prompt", "expected", "before", "after"), "long " * 99)
    metrics = {"method": "lora", "objective": "answers", "trained_parameters": 1, "parameters": 2, "steps": 3}
    metrics |= {"training_seconds": 4.0, "tokens_per_second": 5.0, "learning_rate": 0.1}
    assert all(len(line) < 180 for line in adapted_lines(metrics, [sample]))
