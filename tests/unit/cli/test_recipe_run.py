"""`bloomery run`: a recipe file, dry and for real."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from bloomery.corpus import DedupConfig


@pytest.fixture
def recipe(tiny, tmp_path: Path) -> Path:
    lines = [
        f'[curate]\nsources = ["{tiny.texts}"]\ntest_fraction = 0.1',
        "[tokenizer]\nvocab_size = 300",
        "[pretrain]",
    ]
    lines += [o.removeprefix("pretrain.") for o in tiny.sizes if o.startswith("pretrain.")]
    text = "\n".join(lines).replace("=float32", '="float32"').replace("=cpu", '="cpu"')
    path = tmp_path / "small.toml"
    path.write_text(text + "\n[measure]\nmax_new_tokens = 4\n")
    return path


def test_dry_then_run_then_nothing_to_do(call, tiny, recipe: Path):
    home = ("--home", str(tiny.home), "--quiet")
    steps = json.loads(call("run", str(recipe), "--dry-run", "--json", *home).out)
    assert [s["stage"] for s in steps] == ["curate", "tokenizer", "tokenize", "pretrain", "measure"]
    assert [s["action"] for s in steps[:4]] == ["reuse"] * 4
    first = call("run", str(recipe), "--json", *home)
    data = json.loads(first.out)
    assert data["scores"]["score"]["bits_per_byte"] > 0
    assert Path(data["report"]).read_text().startswith("<!doctype html>")
    again = call("run", str(recipe), *home)
    assert again.err.count("unchanged, reused") == 5
    assert "this model" in again.out and "carbon intensity" in again.out
    assert call("run", str(recipe), "--dry-run", *home).out.count("reuse") == 5


def test_until(call, tiny, recipe: Path):
    made = json.loads(
        call("run", str(recipe), "--until", "tokenize", "--json", "--home", str(tiny.home), "--quiet").out
    )
    assert list(made) == ["curate", "tokenizer", "tokenize"]
    assert "tokens-" in call("run", str(recipe), "--until", "tokenize", "--home", str(tiny.home), "--quiet").out


def test_a_misspelt_key_names_file_and_suggestion(call, tiny, recipe: Path):
    recipe.write_text(recipe.read_text().replace("vocab_size", "vocabsize"))
    line = call.mistake("run", str(recipe), "--home", str(tiny.home))
    assert "small.toml" in line and "tokenizer.vocabsize" in line and 'did you mean "vocab_size"?' in line


def test_broken_and_missing_recipes(call, tiny, tmp_path: Path):
    assert "no recipe" in call.mistake("run", str(tmp_path / "none.toml"), "--home", str(tiny.home))
    (tmp_path / "broken.toml").write_text("[pretrain\n")
    assert "line 1" in call.mistake("run", str(tmp_path / "broken.toml"), "--home", str(tiny.home))


def test_keys_are_listed_from_the_configs_and_nothing_is_done(call, tmp_path: Path):
    listed = json.loads(call("run", "--keys", "dedup", "--json", "--home", str(tmp_path / "h")).out)
    assert {field.name for field in fields(DedupConfig)} == {one["key"].removeprefix("curate.dedup.") for one in listed}
    assert all(one["meaning"] for one in listed)
    said = call("run", "--keys", "curate").out
    assert "curate.mix.temperature = 0.0  (number)" in said and "curate.personal.email" in said
    assert "train." not in said and "train.fit.epochs" in call("run", "--keys", "all").out
    assert 'did you mean "dedup"?' in call.mistake("run", "--keys", "dedub")
    assert "no recipe" in call.mistake("run")
    assert not (tmp_path / "h").exists()
