"""Identity: the same weights are the same model, and a bit more or less is another."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from bloomery.engine import LanguageModel, load
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
