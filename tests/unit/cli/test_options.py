"""The options that every verb has."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from bloomery.cli.options import Common, artifact_data, print_json, read_recipe, show_artifact
from bloomery.core.errors import ConfigError
from bloomery.training import PretrainConfig


def test_read_recipe_applies_overrides(tmp_path: Path):
    path = tmp_path / "r.toml"
    path.write_text("[pretrain]\nminutes = 2\n")
    recipe = read_recipe(path, ["pretrain.minutes=0.5", "pretrain.family=llama"])
    config = recipe.table("pretrain", PretrainConfig)
    assert (config.minutes, config.family) == (0.5, "llama")
    with pytest.raises(ConfigError, match="minuets") as caught:
        read_recipe(None, ["pretrain.minuets=1"])
    assert 'did you mean "minutes"?' in caught.value.hint


def test_workspace_and_artifact_data(tiny, capsys: pytest.CaptureFixture[str]):
    workspace = Common(home=tiny.home, quiet=True).workspace()
    model = workspace.latest("model")
    show_artifact(model, Common(json=True), [])
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads(json.dumps(artifact_data(model)))
    assert shown["kind"] == "model" and shown["energy_joules"]["method"] != "unknown"
    show_artifact(model, Common(), ["a line"], began=0.0)
    shown = capsys.readouterr()
    assert shown.out == f"{model.name}  {model.path}\n  a line\n" and not shown.err
    show_artifact(model, Common(), [], began=time.time() + 1)
    assert "nothing has changed" in capsys.readouterr().err
    print_json({"ü": 1})
    assert json.loads(capsys.readouterr().out) == {"ü": 1}
