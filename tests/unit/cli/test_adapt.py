"""`bloomery adapt`: tuned, asked with its adapter, merged, asked again; and what is wrong, in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bloomery.cli.adapt import adapted_lines, label_lines
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


def test_labels_are_told_with_what_they_are_to_be_held_against(call, tiny, tmp_path):
    """Texts with labels make a classifier: its accuracy has n and the commonest label's share, and measured."""
    texts = [{"text": f"term{n} term{n % 5}", "label": "few" if n % 4 else "many"} for n in range(40)]
    data, where = _file(tmp_path / "labelled.jsonl", texts), ("--home", str(tiny.copy(tmp_path / "home")))
    asked = ("adapt", _base(tiny), data, *SHORT, "--set", "adapt.validation_fraction=0.5", *where)
    made = json.loads(call(*asked, "--json").out)
    told = call(*asked).out
    n, share = (made["metrics"][f"validation_{name}"] for name in ("examples", "commonest"))
    assert f"after (n = {n}; the most frequent label is {share:.4f})" in told and 0.5 <= share < 1
    (line,) = label_lines(Workspace(tmp_path / "home").find(made["name"]))
    assert line in told and f"bloomery adapt merge {made['name']}" in line and "labels (few, many)" in line
    said = call.mistake("evaluate", made["name"], "--task", data, *where)
    assert "adapter that gives labels" in said and f"bloomery adapt merge {made['name']}" in said
    merged = json.loads(call("adapt", "merge", made["name"], "--json", *where).out)
    found = json.loads(call("evaluate", merged["name"], "--task", data, "--json", *where).out)["tasks"][0]
    assert found["samples"] == 40 and 0 < found["metrics"]["exact_match"]["value"] <= 1


PAIRS = [{"prompt": f"term{n}", "chosen": f"term{n % 7}", "rejected": "term1 term2"} for n in range(20)]
JUDGED = [{"prompt": row["prompt"], "completion": row["chosen"], "label": n % 2} for n, row in enumerate(PAIRS)]


def _fit(table: str) -> list[str]:
    sets = ("steps=3", "batch_rows=4", "device=cpu", "validations=1")
    return [part for one in sets for part in ("--set", f"{table}.fit.{one}")]


def _base(tiny) -> str:
    return Workspace(tiny.home).latest("model").id


def _file(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("method", ["dpo", "ipo", "kto", "orpo"])
def test_preferences(call, tiny, tmp_path, method):
    """Each method from the command line, with its own keys; what a person reads has rewards and the divergence."""
    base, where = _base(tiny), ("--home", str(tiny.copy(tmp_path / "home")))
    data = _file(tmp_path / "rows.jsonl", JUDGED if method == "kto" else PAIRS)
    asked = ("adapt", base, data, "--method", method, *_fit("prefer"), *where)
    asked = (*asked, "--set", "prefer.beta=0.5", "--set", "prefer.validation_fraction=0.3")
    made = json.loads(call(*asked, "--json").out)
    metrics = made["metrics"]
    assert made["kind"] == "adapter" and metrics["method"] == method and metrics["steps"] == 3
    assert metrics["validation_kl_nats_per_token"] >= 0 and "validation_reward_margin" in metrics
    assert metrics["kept_by"] == "loss"
    told = call(*asked).out
    assert "validation loss: " in told and " before, " in told
    assert (method == "kto") != ("validation preference accuracy: " in told)
    assert f"{method}: " in told and "validation reward margin: " in told and "validation kl nats per token: " in told
    if method == "dpo":
        whole = json.loads(call(*asked, "--set", "prefer.weights=full", "--epochs", "1", "--json").out)
        assert whole["kind"] == "model" and whole["metrics"]["steps"] == 3  # of 14 pairs, four at a time


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--method", "dpo", "--validation", "x.jsonl"), "holds out a share"),
        (("--method", "kto", "--adapter", "x"), "begins with a model"),
        (("--method", "ipo", "--teacher", "x"), "takes no teacher"),
        (("--method", "orpo", "--general", "x"), "takes no general"),
        (("--method", "dpo", "--control", "x"), "takes no control"),
        (("--teacher", "x"), "are of distil and domain"),
        (("--method", "distil"), "no teacher"),
        (("--method", "dpo", "--set", "prefer.beta=0"), "beta should be above 0"),
        (("--method", "ipo", "--set", "prefer.label_smoothing=0.1"), "belongs to the sigmoid loss"),
        (("--method", "dpo", "--set", "prefer.label_smoothing=0.5"), "below .5"),
        (("--method", "kto", "--set", "prefer.undesirable_weight=-1"), "cannot be negative"),
        (("--method", "dpo", "--set", "prefer.bta=1"), 'unknown key "prefer.bta"'),
        (("--method", "dpo", "--set", "prefer.max_tokens=4"), "max_tokens"),
        (("--method", "dpo", "--set", "prefer.lora.target_modules=['x_proj']"), "names no layer"),
    ],
)
def test_flags_of_methods(call, tiny, tmp_path, arguments, said):
    data = _file(tmp_path / "rows.jsonl", PAIRS)
    home = tiny.copy(tmp_path / "home")
    assert said in call.mistake("adapt", _base(tiny), data, *arguments, "--home", str(home))


@pytest.mark.parametrize("method", ["lora", "dpo"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", value) for value in ("0", "-1", "nan", "inf", "1e9")]
    + [("minutes", value) for value in ("0", "-3", "nan", "inf", "1e9")],
)
def test_lengths_that_are_none(call, tiny, rows, method, name, value):
    """A budget of nothing, of less, or of ages, is said at once; nothing is trained for minutes instead."""
    said = call.mistake("adapt", "latest", str(rows), "--method", method, f"--{name}={value}", "--home", str(tiny.home))
    assert f"{name} should be above 0 and at most" in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("adapt.fit.epochs=-1", '"epochs" should be'),
        ("adapt.fit.epochs=nan", "finite number"),
        ("adapt.fit.learning_rate=inf", "finite number"),
        ("adapt.fit.batch_rows=0", '"batch_rows" should be'),
        ("adapt.samples=-1", '"adapt.samples" cannot be negative'),
        ("adapt.validation_examples=-1", '"adapt.validation_examples" cannot be negative'),
        ("adapt.validation_fraction=1.5", "validation_fraction"),
        ("adapt.lora.r=0", '"r" should be from 1'),
        ("adapt.fit.device=tpu", "tpu"),
    ],
)
def test_settings_that_are_none(call, tiny, rows, given, said):
    assert said in call.mistake("adapt", _base(tiny), str(rows), "--set", given, "--home", str(tiny.home))


def test_both_lengths_and_no_data(call, tiny, rows):
    where = ("--home", str(tiny.home))
    assert "both given" in call.mistake("adapt", "latest", str(rows), "--epochs", "1", "--minutes", "1", *where)
    assert "--data requires an argument" in call.mistake("adapt", "latest", *where)
