"""Classifier: learns labels, keeps what it learnt in safetensors and JSON, and refuses what is none."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.corpus.classifier import CONFIG_FILE, WEIGHTS_FILE, QualityClassifier, fit_classifier

pytest.importorskip("sklearn")
RNG = random.Random(0)
GOOD, BAD = ["river", "stone", "light", "garden", "letter", "evening"], ["click", "buy", "cheap", "now", "offer", "win"]


def _text(words: list[str]) -> str:
    return " ".join(RNG.choices([*words, *["the", "a", "of", "and", "to", "in"]], k=30))


TEXTS = [_text(GOOD) if n % 2 else _text(BAD) for n in range(80)]
LABELS = [bool(n % 2) for n in range(80)]


@pytest.fixture(scope="module")
def model() -> QualityClassifier:
    return fit_classifier(TEXTS, LABELS)


def test_it_tells_good_from_bad_and_says_how_well(model: QualityClassifier):
    assert model.probability(_text(GOOD)) > 0.8 > 0.2 > model.probability(_text(BAD))
    assert model.measured["area_under_curve"] > 0.95 and model.measured["calibration_error"] < 0.2
    assert sum(row["count"] for row in model.measured["reliability"]) == 80


def test_its_score_is_scikit_learns(model: QualityClassifier):
    text = _text(GOOD)
    buckets, values = model.features.of(text)
    dense = np.zeros(1 << model.bits)
    dense[buckets] = values
    assert np.linalg.norm(dense) == pytest.approx(1.0)
    assert model.score(text) == pytest.approx(dense @ model.weights.astype(np.float64) + model.offset)


def test_saved_and_loaded_it_is_the_same(model: QualityClassifier, tmp_path: Path):
    model.save(tmp_path / "c")
    assert {p.name for p in (tmp_path / "c").iterdir()} == {CONFIG_FILE, WEIGHTS_FILE}
    loaded = QualityClassifier.load(tmp_path / "c")
    assert [loaded.probability(t) for t in TEXTS[:5]] == [model.probability(t) for t in TEXTS[:5]]


def test_what_is_no_classifier(model: QualityClassifier, tmp_path: Path):
    with pytest.raises(ConfigError, match="no classifier"):
        QualityClassifier.load(tmp_path)
    model.save(tmp_path)
    said = json.loads((tmp_path / CONFIG_FILE).read_text())
    for broken in ({**said, "bits": 3}, {**said, "sizes": []}, {"format": 1}, {**said, "offset": "x"}):
        (tmp_path / CONFIG_FILE).write_text(json.dumps(broken))
        with pytest.raises(DataError, match="not a classifier"):
            QualityClassifier.load(tmp_path)


def test_too_few_labels():
    with pytest.raises(ConfigError, match="too few"):
        fit_classifier(TEXTS[:6], LABELS[:6])
