"""Prompts by file, library and artifact; ways of asking that a model cannot be asked."""

from __future__ import annotations

import pytest

from bloomery.cli.prompt_options import AskingOptions, find_prompt, find_scorer
from bloomery.core.errors import ConfigError
from bloomery.core.workspace import Workspace


def test_prompts_are_found(tmp_path):
    workspace = Workspace(tmp_path / "home")
    assert find_prompt("classify", workspace).name == "classify"
    path = tmp_path / "own.toml"
    path.write_text('name = "own"\n')
    assert find_prompt(str(path), workspace).name == "own"
    with pytest.raises(ConfigError, match="no prompt"):
        find_prompt("clasify", workspace)


def test_ways_of_asking():
    assert AskingOptions(how="votes", votes=3, chat=False).strategy().votes == 3
    assert AskingOptions(chat=False).strategy().plain
    with pytest.raises(ConfigError):
        AskingOptions(how="likelihood").strategy()
    assert find_scorer("").name and find_scorer("numeric").name
    with pytest.raises(ConfigError):
        find_scorer("exakt")
