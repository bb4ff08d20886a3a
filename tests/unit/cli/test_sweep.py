"""The verb: a recipe's dials, each trial a run, a table, JSON, mistakes in one line."""

from __future__ import annotations

import json
import sys

import pytest

from bloomery.cli.main import main
from bloomery.cli.options import read_recipe
from bloomery.cli.sweep import Trial, _check
from bloomery.core.errors import ArtifactError
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
        ("parallel.ranks", "[1, 2]", "changes nothing of a trial"),
        ("pretrain.warmup_fraction", "[0.6, 0.7, 0.8]", "together exceed 1"),
        ("pretrain.warmup_fraction", "{ low = 0, high = 0.5, step = 1e-9 }", "values in a grid"),
        (
            "pretrain.precision",
            '["float32", "float13"]',
            '"pretrain.precision" cannot be \'float13\' (the dial pretrain.precision = "float13")',
        ),
        (
            "pretrain.hidden_size",
            "[64, 65]",
            "should be even for rotary positions, not 65 (the dial pretrain.hidden_size",
        ),
        (
            "pretrain.num_attention_heads",
            "[1, 3]",
            "is not a multiple of 3 heads (the dial pretrain.num_attention_heads",
        ),
        ("pretrain.warmup_fraction", "[0.1, 0.6]", "together exceed 1 (the dial pretrain.warmup_fraction = 0.6)"),
        ("pretrain.final_rate", "{ low = 0.0, high = 1.5 }", "not 1.5 (the dial pretrain.final_rate = 1.5)"),
        ("pretrain.context_length", "{ low = 6, high = 16 }", "at least 8 (the dial pretrain.context_length = 6)"),
    ],
)
def test_mistakes(recipe, tmp_path, capsys, key, values, said):
    assert main(["sweep", str(recipe(key, values)), "--home", str(tmp_path / "home")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and said in line
    assert not (tmp_path / "home" / "ledger.sqlite").exists() or not Workspace(tmp_path / "home").ledger.runs()


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_who_draws_makes_no_grid(recipe, monkeypatch, sampler):
    path = recipe("pretrain.warmup_fraction", "{ low = 0, high = 0.5, step = 1e-9 }")
    path.write_text(path.read_text().replace('"grid"', f'"{sampler}"'))
    monkeypatch.delattr("bloomery.training.sweep.dials.Dial.grid")
    settings = read_recipe(path, None)
    _check(settings, path, (), settings.tables["sweep"])


def test_when_all_trials_fail_the_code_says_so(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(study, "TrialProcess", TrialThread)

    def fail(self, values, listener):
        raise ArtifactError("no room")

    monkeypatch.setattr(Trial, "__call__", fail)
    command = ["sweep", str(recipe("pretrain.learning_rate_scale", "[0.5, 1.0]")), "--home", str(tmp_path / "home")]
    assert main([*command, "--json"]) == 2
    told = capsys.readouterr()
    assert [trial["state"] for trial in json.loads(told.out)["trials"]] == ["failed", "failed"]
    last = told.err.splitlines()[-1]
    assert last.startswith("error: all trials failed, the first one so: no room") and "--retry" in last
    assert main(command) == 2 and "2 trials: 2 failed" in capsys.readouterr().out


def test_dials_that_need_each_other(recipe, tmp_path, capsys):
    """A width without a depth is refused, and so is the first of these warm-ups beside the usual decay."""
    path = recipe("pretrain.hidden_size", '[48, 64]\n"pretrain.num_hidden_layers" = [1, 2]')
    text = path.read_text().replace("hidden_size = 32\nnum_hidden_layers = 1\n", "")
    path.write_text(text + '"pretrain.warmup_fraction" = [0.6, 0.1]\n"pretrain.decay_fraction" = [0.5, 0.3]\n')
    settings = read_recipe(path, None)
    config = settings.tables["sweep"]
    assert len(config.dials) == 4
    _check(settings, path, (), config)
    assert main(["sweep", str(path), "--home", str(tmp_path / "home"), "--jobs", "0"]) == 2
    assert "--jobs 1" in capsys.readouterr().err


def test_a_recipes_sinks_are_told_of_trials(recipe, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.setattr(study, "TrialProcess", TrialThread)
    path = recipe("pretrain.learning_rate_scale", "[1.0]")
    path.write_text(path.read_text() + '[track]\nsinks = ["tensorboard"]\n')
    assert main(["sweep", str(path), "--home", str(tmp_path / "home"), "--json"]) == 0
    runs = Workspace(tmp_path / "home").ledger.runs(stage="pretrain")
    told = {folder.name for folder in (tmp_path / "home" / "tracking" / "tensorboard").iterdir()}
    assert told == {run["id"] for run in runs}


def test_a_sink_that_is_not_installed_is_said_before_anything_is_done(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    path = recipe("pretrain.learning_rate_scale", "[1.0]")
    path.write_text(path.read_text() + '[track]\nsinks = ["mlflow"]\n')
    assert main(["sweep", str(path), "--home", str(tmp_path / "home")]) == 2
    assert 'pip install "bloomery[mlflow]"' in capsys.readouterr().err
    assert not Workspace(tmp_path / "home").ledger.runs()


def test_without_held_out_text_nothing_is_trained(recipe, tmp_path, capsys):
    path, home = recipe("pretrain.learning_rate_scale", "[1.0]"), tmp_path / "home"
    path.write_text(path.read_text().replace("validation_fraction = 0.2", "validation_fraction = 0.0"))
    assert main(["sweep", str(path), "--home", str(home), "--quiet"]) == 2
    assert "nothing is held out" in capsys.readouterr().err
    assert not Workspace(home).ledger.runs(stage="pretrain")


@pytest.mark.parametrize("where", ["--engine", "recipe"])
def test_without_ray(recipe, tmp_path, capsys, monkeypatch, where):
    monkeypatch.setitem(sys.modules, "ray", None)
    path = recipe("pretrain.learning_rate_scale", "[1.0]")
    if where == "recipe":
        path.write_text(path.read_text().replace("[sweep]", '[sweep]\nengine = "ray"'))
    options = ["--engine", "ray"] if where == "--engine" else []
    assert main(["sweep", str(path), "--home", str(tmp_path / "home"), *options]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and 'pip install "bloomery[ray]"' in last
    assert not Workspace(tmp_path / "home").ledger.runs()


def test_without_optuna_nothing_is_made(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    path, home = recipe("pretrain.learning_rate_scale", "[1.0]"), tmp_path / "home"
    assert main(["sweep", str(path), "--home", str(home)]) == 2
    assert 'pip install "bloomery[sweep]"' in capsys.readouterr().err
    assert not Workspace(home).ledger.runs()


def test_without_dials(tmp_path, capsys):
    path = tmp_path / "recipe.toml"
    path.write_text("[pretrain]\nsteps = 1\n")
    assert main(["sweep", str(path), "--home", str(tmp_path / "home")]) == 2
    assert "the recipe has no dials" in capsys.readouterr().err
