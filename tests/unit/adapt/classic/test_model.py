"""A model from its folder answers as before; a folder that was meddled with is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bloomery.adapt.classic import ClassicConfig, fit_classic, load_classic
from bloomery.core.errors import ConfigError, DataError
from bloomery.evaluate.sample import Sample

KINDS = ("logistic", "bayes", "boosted", "clusters", "anomaly")


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded(kind, texts, tmp_path):
    model = fit_classic(texts(80), ClassicConfig(kind=kind, trials=1, folds=3, price_per_label=0.1))
    model.save(tmp_path)
    again = load_classic(tmp_path)
    np.testing.assert_array_equal(again.probabilities(texts(30, seed=2)), model.probabilities(texts(30, seed=2)))
    assert again.name == model.name and again.making == model.making and again.labels == ("good", "bad")
    assert model.making.labels == 80 and model.making.labels_cost.central == pytest.approx(8.0)
    assert model.probabilities([]).shape == (0, 2)


def test_an_answer_is_the_most_probable_choice(texts):
    model = fit_classic(texts(90, labels=3), ClassicConfig(trials=1, folds=3))
    sample = Sample(id="q", input="a dull and grim film", choices=("good", "bad", "odd"))
    found = model.answer(sample)
    assert found.text == "bad" and found.prompt_tokens == 0
    assert found.confidence == pytest.approx(model.probabilities([sample]).max())
    held = model.answer(Sample(id="q", input="a dull and grim film", choices=("good", "odd")))
    assert held.text in ("good", "odd") and 0.5 <= (held.confidence or 0) <= 1
    other = model.answer(Sample(id="q", input="x", choices=("yes", "no")))
    assert other.text == "" and "choices" in other.error


@pytest.mark.parametrize("change", [{"format": 9}, {"kind": "svm"}, {"labels": ["a", "b", "c"]}, {"calibration": [{}]}])
def test_a_folder_that_was_meddled_with(change, texts, tmp_path):
    fit_classic(texts(60), ClassicConfig(kind="boosted", trials=1, folds=3)).save(tmp_path)
    told = json.loads((tmp_path / "classic.json").read_text())
    (tmp_path / "classic.json").write_text(json.dumps({**told, **change}))
    with pytest.raises(DataError):
        load_classic(tmp_path)


def test_a_tree_that_goes_round_is_refused(texts, tmp_path):
    from safetensors.numpy import load_file, save_file

    fit_classic(texts(80), ClassicConfig(kind="boosted", trials=1, folds=3)).save(tmp_path)
    arrays = load_file(tmp_path / "classic.safetensors")
    arrays["estimator.left"] = np.zeros_like(arrays["estimator.left"])
    save_file(arrays, tmp_path / "classic.safetensors")
    with pytest.raises(DataError, match="goes round"):
        load_classic(tmp_path)


def test_no_folder(tmp_path):
    with pytest.raises(ConfigError, match="no classic model"):
        load_classic(tmp_path)
