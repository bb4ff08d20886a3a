"""What a tuning is made of: what is trained and told of it."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bloomery.adapt.tuning.config import AdaptConfig
from bloomery.adapt.tuning.instruct_data import Example
from bloomery.adapt.tuning.material import chat_material, prepared
from bloomery.core.errors import ConfigError
from bloomery.models import load_pretrained
from bloomery.models.classifiers import MeanTextClassifier, MeanTextConfig

make_tiny_model = runpy.run_path(str(Path(__file__).parents[3] / "tiny_model.py"))["make_tiny_model"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def test_notes_say_what_became_of_the_data(base: Path):
    rows = [Example(where="x", prompt="Iron ", answer=f"metal {n} " * n) for n in range(1, 30)]
    rows += [Example(where="x", prompt="ore " * 99, answer="no"), rows[0]]
    made = chat_material(replace(AdaptConfig(), context_length=48), base, rows, rows[:3])
    assert "examples are longer than 48 tokens" in made.notes[0]
    assert any("left out" in note for note in made.notes) and any("equal to others" in note for note in made.notes)
    assert any("3 of 3 held-out examples are learnt from" in note for note in made.notes)
    assert made.metrics["examples_equal"] == 1 and made.metrics["examples_given"] == len(rows) + 3


def test_bytes_of_the_base(base: Path):
    """What qlora holds of the blocks' linear layers: half a byte a weight, and one byte for 64 with double scales."""
    for form, most in (("nf4", 0.55), ("int4", 0.6)):
        config = replace(AdaptConfig(method="qlora"), base=form)
        _, metrics = prepared(config, load_pretrained(base, dtype=torch.float32))
        weights = metrics["base_linear_bytes_plain"] / 4
        assert 0.5 * weights < metrics["base_linear_bytes"] < most * weights


def test_a_model_that_cannot_recompute():
    model = MeanTextClassifier(MeanTextConfig(hidden_size=4, intermediate_size=4, vocab_size=9, num_labels=2))
    with pytest.raises(ConfigError, match="is for decoders"):
        prepared(AdaptConfig(recompute=True), model)
