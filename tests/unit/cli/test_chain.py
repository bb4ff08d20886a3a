"""The chain: what has changed runs, the rest is reused, and it is said why."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bloomery.cli.chain import LINKS, SCHEMA, execute, explain
from bloomery.core.errors import ConfigError
from bloomery.core.recipe import Recipe, load_recipe
from bloomery.core.workspace import Workspace


def _recipe(tiny, *more: str) -> Recipe:
    sets = [o for o in tiny.sizes if o != "--set"]
    return load_recipe(None, SCHEMA, [f'curate.sources=["{tiny.texts}"]', "curate.test_fraction=0.1", *sets, *more])


@pytest.fixture
def workspace(tiny, tmp_path: Path) -> Workspace:
    return Workspace(tiny.copy(tmp_path / "home"))


def test_only_what_changed_runs(tiny, workspace: Workspace):
    recipe = _recipe(tiny)
    before = {s.name: s for s in explain(recipe, workspace)}
    assert [before[n].action for n in ("curate", "tokenizer", "tokenize", "pretrain")] == ["reuse"] * 4
    assert (before["measure"].action, before["measure"].reason) == ("run", "it has never run")
    heard: list[tuple[str, bool]] = []
    made = execute(recipe, workspace, done=lambda name, artifact, reused: heard.append((name, reused)))
    assert heard == [(link.name, link.name != "measure") for link in LINKS]
    assert made["measure"].parents == (made["pretrain"].id, made["curate"].id, made["tokenize"].id)
    assert all(step.action == "reuse" for step in explain(recipe, workspace))


def test_a_changed_key_is_named_and_later_stages_follow(tiny, workspace: Workspace):
    steps = {s.name: s for s in explain(_recipe(tiny, "tokenizer.vocab_size=280"), workspace)}
    assert steps["curate"].action == "reuse"
    assert "vocab_size 300 -> 280" in steps["tokenizer"].reason
    assert "tokenizer" in steps["tokenize"].reason and steps["pretrain"].action == "run"


def test_a_touched_source_is_seen(tiny, workspace: Workspace, tmp_path: Path):
    copy = tmp_path / "texts"
    shutil.copytree(tiny.texts, copy)
    recipe = load_recipe(None, SCHEMA, [f'curate.sources=["{copy}"]'])
    execute(recipe, workspace, until="curate")
    assert explain(recipe, workspace, until="curate")[0].action == "reuse"
    (copy / "00.txt").write_text("something else altogether, and longer than before")
    assert explain(recipe, workspace, until="curate")[0].action == "run"


def test_damage_is_made_good(tiny, workspace: Workspace):
    recipe = _recipe(tiny)
    tokens = explain(recipe, workspace)[2].artifact
    assert tokens is not None
    (tokens.path / "train-00000.bin").write_bytes(b"")
    step = explain(recipe, workspace)[2]
    assert (step.action, step.reason) == ("run", "its artifact is gone or damaged")
    assert execute(recipe, workspace, until="tokenize")["tokenize"].id == tokens.id


def test_unknown_stage(tiny, workspace: Workspace):
    with pytest.raises(ConfigError, match="unknown stage"):
        explain(_recipe(tiny), workspace, until="pretain")
