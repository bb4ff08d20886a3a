"""`bloomery plan`."""

from __future__ import annotations

import json
from contextlib import closing

import pytest

from bloomery.core.workspace import Workspace


def test_plan_as_json_and_text(call, tiny):
    made = json.loads(call("plan", "--home", str(tiny.home), "--json", "--quiet", *tiny.sizes).out)
    assert made["steps"] == 4 and made["model"]["hidden_size"] == 64
    assert made["predicted_bits_per_byte"]["method"] == "estimated"
    text = call("plan", "--home", str(tiny.home), "--quiet", *tiny.sizes).out
    assert text.startswith("plan: 1 layers x 64 for 4 steps")
    for word in ("vocabulary", "learning rates", "memory", "carbon", "cost", "unknown", "this plan: 1 x 64"):
        assert word in text


def test_a_plan_is_followed_and_scored(call, tiny, tmp_path):
    home = str(tiny.copy(tmp_path / "home"))
    before = len(json.loads(call("plan", "--scores", "--home", home, "--json").out)["runs"])  # of other tests
    made = json.loads(call("plan", "--home", home, "--json", "--out", str(tmp_path / "p.json"), *tiny.sizes[:2], *(
        "--set", "pretrain.hidden_size=64", "--set", "pretrain.num_hidden_layers=1", "--set", "pretrain.steps=3",
        "--set", "pretrain.context_length=32", "--set", "pretrain.batch_rows=2", "--set", "pretrain.device=cpu",
    )).out)  # fmt: skip
    options = ["--home", home, "--json", "--quiet", *tiny.sizes[:2]]
    model = json.loads(call("pretrain", "--plan", str(tmp_path / "p.json"), *options).out)
    assert model["metrics"]["steps"] == 3 and model["metrics"]["plan"]["seconds"] == made["seconds"]
    # The artifact of the plan is the same plan: nothing is left to do.
    assert json.loads(call("pretrain", "--plan", made["artifact"], *options).out)["id"] == model["id"]
    rows = json.loads(call("plan", "--scores", "--home", home, "--json").out)
    assert rows["runs"][0]["model"] == model["name"]
    assert rows["summary"]["seconds"]["runs"] == len(rows["runs"]) == before + 1
    text = call("plan", "--scores", "--home", home).out
    assert "median error" in text and "how far the plan was off" in text
    assert "has its budget" in call.mistake("pretrain", "--plan", made["artifact"], "--minutes", "1", *options)


def test_without_a_vocabulary_the_corpus_keeps_its_tokenizer(call, tiny, tmp_path):
    home = str(tiny.copy(tmp_path / "home"))
    options = ["--home", home, "--json", "--quiet"]
    workspace = Workspace(home)
    with closing(workspace.ledger) as ledger:
        corpus = ledger.artifacts(kind="corpus")[-1]["id"]  # its own: other tests make others beside it
        trained = [workspace.find(row["id"]) for row in ledger.artifacts(kind="tokenizer")]
    made = json.loads(call("plan", corpus, *options, *tiny.sizes[2:]).out)
    assert made["model"]["vocab_size"] in [one.config["vocab_size"] for one in trained if corpus in one.parents]
    assert made["components"]["steps"] > 0 and made["predicted_seconds"] == pytest.approx(
        sum(made["components"].values())
    )
    model = json.loads(call("pretrain", "--plan", made["artifact"], *options).out)
    assert model["metrics"]["plan"]["model"] == made["model"]  # of the tokenizer that nothing but the plan names
    assert set(model["metrics"]["plan_score"]["components"]["actual"]) == set(made["components"])


def test_no_scores_yet(call, tmp_path):
    assert "no finished run" in call("plan", "--scores", "--home", str(tmp_path / "none")).out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--minutes", "0"], "minutes"),
        (["--minutes", "1", "--watt-hours", "1"], "one budget"),
        (["--money", "1"], "price"),
        (["--target", "0.01"], "cannot be expected"),
        (["--calibrate", "--calibration-minutes", "0"], "calibrate"),
        (["--calibration-minutes", "3"], "--calibrate"),
        (["--minutes", "1e308"], "6e+07 minutes at most"),
        (["--watt-hours", "1e308"], "1e+12 watt hours at most"),
        (["--set", f"pretrain.steps={'9' * 400}"], "pretrain.steps"),
    ],
)
def test_budgets_that_make_no_sense(call, tiny, options, said):
    sizes = tiny.sizes[:2] + tiny.sizes[4:] if "--money" in options or "--target" in options else tiny.sizes
    assert said in call.mistake("plan", "--home", str(tiny.home), "--quiet", *sizes, *options)
