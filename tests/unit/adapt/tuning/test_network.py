"""Small nets from random weights as answerers: they learn, keep what they cost, and open again."""

from __future__ import annotations

import random
import runpy
from pathlib import Path

import numpy as np
import pytest

from bloomery.adapt.tuning.config import TuningFitConfig
from bloomery.adapt.tuning.network import NetworkConfig, train_network
from bloomery.core.errors import ConfigError, DataError
from bloomery.evaluate.sample import Sample
from bloomery.training.building import NetConfig

make_tiny_model = runpy.run_path(str(Path(__file__).parents[3] / "tiny_model.py"))["make_tiny_model"]
LABELS = ("iron", "ore")


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def _samples(count: int, seed: int) -> list[Sample]:
    rng = random.Random(seed)
    words = [rng.choice(LABELS) for _ in range(count)]
    return [
        Sample(id=f"{seed}-{n}", input=f"{word} {rng.randint(0, 99)}", targets=(word,), choices=LABELS)
        for n, word in enumerate(words)
    ]


def _config(family: str) -> NetworkConfig:
    fit = TuningFitConfig(steps=60, epochs=0.0, batch_rows=8, device="cpu", learning_rate=1e-2, validations=2)
    net = NetConfig(family=family, hidden_size=32, num_hidden_layers=1)
    return NetworkConfig(net=net, fit=fit, context_length=32)


@pytest.mark.parametrize("family", ["mean", "conv", "bert", "qwen3"])
def test_a_net_learns_and_is_opened_again(tmp_path: Path, vocabulary: Path, family: str):
    train, dev, test = _samples(48, 0), _samples(12, 1), _samples(24, 2)
    made = train_network(vocabulary, train, dev, labels=LABELS, config=_config(family), workspace=tmp_path)
    answers = [made.answer(one) for one in test]
    assert np.mean([one.text == sample.targets[0] for one, sample in zip(answers, test, strict=True)]) > 0.9
    assert made.training.labels == 60
    assert made.training.seconds > 0
    assert made.name == f"{family} classifier"
    # Many at once say the same as one at a time: padding counts for nothing.
    together = made.probabilities(test, rows=5)
    alone = [[one.details["probabilities"][label] for label in LABELS] for one in answers]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    again = train_network(vocabulary, train, dev, labels=LABELS, config=_config(family), workspace=tmp_path)
    assert again.artifact.id == made.artifact.id


def test_an_empty_text_has_a_probability_too(tmp_path: Path, vocabulary: Path):
    made = train_network(vocabulary, _samples(16, 0), labels=LABELS, config=_config("mean"), workspace=tmp_path)
    found = made.probabilities([Sample(id="empty", input="")])
    assert found.shape == (1, 2)
    assert found.sum() == pytest.approx(1)


def test_mistakes_are_said(tmp_path: Path, vocabulary: Path):
    train = _samples(8, 0)
    with pytest.raises(ConfigError, match="two or more"):
        train_network(vocabulary, train, labels=("iron",), workspace=tmp_path)
    with pytest.raises(DataError, match="none of the labels"):
        train_network(vocabulary, train, labels=("gold", "iron"), workspace=tmp_path)
    with pytest.raises(DataError, match="no sample"):
        train_network(vocabulary, [], labels=LABELS, workspace=tmp_path)
