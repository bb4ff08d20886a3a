"""Identity: the same weights are the same model, and a bit more or less is another."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path

import pytest
import torch

from bloomery.engine import LanguageModel, load
from bloomery.engine.engine import EngineConfig
from bloomery.engine.identity import identity_of

make_tiny_model = runpy.run_path(str(Path(__file__).parents[2] / "tiny_model.py"))["make_tiny_model"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def opened(folder: Path, **how) -> LanguageModel:
    found = load(folder, device="cpu", **how)
    assert isinstance(found, LanguageModel)
    return found


def test_the_same_weights_have_the_same_identity(folder: Path):
    model = opened(folder)
    assert identity_of(model) == identity_of(opened(folder)) and identity_of(model).startswith("tiny#")


def test_a_bit_makes_another(folder: Path):
    model, found = opened(folder), {identity_of(opened(folder))}
    with torch.no_grad():
        next(model.decoder.parameters()).view(-1)[0] += 1e-3
    found.add(identity_of(model))
    found.add(identity_of(opened(folder, weights="int8")))
    found.add(identity_of(opened(folder, dtype="bfloat16")))
    assert len(found) == 4


def test_what_keys_are_kept_in_counts(folder: Path):
    found = set()
    for native, kept in (("off", "auto"), ("off", "float16"), ("off", "int8")):
        model = opened(folder, weights="float16")
        model.set_engine(EngineConfig(native=native, cache_dtype=kept, cache_tokens=64))
        found.add(identity_of(model))
    assert len(found) == 3


def test_config_and_tokenizer_count(folder: Path, tmp_path: Path):
    """The same weights with another norm, or the same tokens cut otherwise, give other answers."""
    found = {identity_of(opened(folder))}
    for name, change in (
        ("config.json", lambda told: told.update(rms_norm_eps=1e-2)),
        ("tokenizer.json", lambda told: told["model"]["merges"].reverse()),
    ):
        other = Path(shutil.copytree(folder, tmp_path / name / "tiny"))
        told = json.loads((other / name).read_text())
        change(told)
        (other / name).write_text(json.dumps(told))
        found.add(identity_of(opened(other)))
    assert len(found) == 3
