"""The verb: a recipe's dials, each trial a run, a table, JSON, mistakes in one line."""

from __future__ import annotations

import json

import pytest

from bloomery.cli.main import main
from bloomery.core.workspace import Workspace
from bloomery.training.sweep import study
from bloomery.training.sweep.trial_process import TrialThread

pytest.importorskip("optuna")
RECIPE = """
[curate]
sources = ["{texts}"]
validation_fraction = 0.2
decontaminate_words = 0
[tokenizer]
vocab_size = 300
[pretrain]
steps = 20
hidden_size = 32
num_hidden_layers = 1
context_length = 16
batch_rows = 2
precision = "float32"
compile = "off"
device = "cpu"
validations = 0
[sweep]
sampler = "grid"
[sweep.dials]
"{key}" = {values}
"""


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "texts").mkdir()
    for n in range(30):
        (tmp_path / "texts" / f"{n}.txt").write_text(" ".join(f"w{n * k % 17}" for k in range(1, 60)))

    def write(key: str, values: str):
        path = tmp_path / "recipe.toml"
        path.write_text(RECIPE.format(texts=tmp_path / "texts", key=key, values=values))
        return path

    return write


def test_a_sweep(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(study, "TrialProcess", TrialThread)
    path, home = recipe("pretrain.learning_rate_scale", "[0.001, 1.0]"), tmp_path / "home"
    assert main(["sweep", str(path), "--home", str(home), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert [trial["state"] in ("finished", "stopped") for trial in made["trials"]] == [True, True]
    workspace = Workspace(home)
    best = made["trials"][made["best"]["number"]]
    assert workspace.find(best["artifact"]).metrics["validation_bits_per_byte"] == made["best"]["value"]
    runs = len(workspace.ledger.runs(stage="pretrain"))
    assert runs == 1 + 4 and len(workspace.ledger.runs(stage="tokenize")) == 1
    # Asked again nothing is trained, and the table says the same.
    assert main(["sweep", str(path), "--home", str(home)]) == 0
    assert f"best: trial {best['number']}" in capsys.readouterr().out
    assert len(workspace.ledger.runs(stage="pretrain")) == runs


@pytest.mark.parametrize(
    ("key", "values", "said"),
    [
        ("pretrain.learning_rate_scael", "[1.0]", 'unknown key "pretrain.learning_rate_scael"'),
        ("pretrain.learning_rate_scale", '["fast"]', "should be float, not str"),
        ("pretrain.steps", "{ low = 5, high = 1 }", "needs a low that is below its high"),
        ("nothing.steps", "[1]", 'unknown table "nothing"'),
    ],
)
def test_mistakes(recipe, tmp_path, capsys, key, values, said):
    assert main(["sweep", str(recipe(key, values)), "--home", str(tmp_path / "home")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and said in line


def test_without_dials(tmp_path, capsys):
    path = tmp_path / "recipe.toml"
    path.write_text("[pretrain]\nsteps = 1\n")
    assert main(["sweep", str(path), "--home", str(tmp_path / "home")]) == 2
    assert "the recipe has no dials" in capsys.readouterr().err
