"""Scores of documents by a classifier of ours, in the form that a corpus's rule reads."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

import bloomery as bl
from bloomery.core.errors import ConfigError, DataError
from bloomery.corpus import Document
from bloomery.corpus.lists import documents_with_scores
from bloomery.engine.document_scores import calibrate, score_documents
from bloomery.engine.labelling import Candidate
from bloomery.tokenizer import Tokenizer, TokenizerConfig
from bloomery.tokenizer.train import learn, write_tokenizer
from bloomery.training.building import NetConfig, build
from bloomery.training.publishing import save_model


@pytest.fixture
def loaded(tmp_path):
    place = tmp_path / "m"
    place.mkdir()
    write_tokenizer(learn(["some words"] * 5, TokenizerConfig(vocab_size=300)), place)
    torch.manual_seed(0)
    net = NetConfig(family="mean", hidden_size=32, num_hidden_layers=1)
    save_model(build("classes", net, Tokenizer.load(place), context_length=16, num_labels=2).eval(), place)
    (place / "labels.json").write_text(json.dumps(["bad", "good"]))
    return bl.load(place, device="cpu")


def test_scores_are_the_models_probabilities_by_id(loaded, tmp_path):
    documents = [Document.of(text, "s") for text in ("some words", "other words here", " \n")]
    told: list[int] = []
    assert score_documents(loaded, documents, tmp_path / "s.jsonl", label="good", told=told.append) == 2
    assert told == [1, 2]
    table = documents_with_scores(str(tmp_path / "s.jsonl"), tmp_path)
    for document in documents[:2]:
        expected = next(math.exp(one.logprob) for one in loaded.classify(document.text) if one.text == "good")
        assert table.get(document.id) == pytest.approx(expected, abs=1e-9)
    table.close()
    assert [p.name for p in tmp_path.glob("*.part")] == []


def test_mistakes(loaded, tmp_path):
    with pytest.raises(ConfigError, match="no label"):
        score_documents(loaded, [Document.of("a", "s")], tmp_path / "s.jsonl", label="goood")

    class Silent:
        name = "silent"

    with pytest.raises(ConfigError, match="does not classify"):
        score_documents(Silent(), [], tmp_path / "s.jsonl")


class Boaster:
    """Says four times the log-odds that are true of a text, which is a number."""

    name = "boaster"

    def classify(self, text: str, *, top: int) -> list[Candidate]:
        odds = 4 * float(text)
        found = {0: -math.log1p(math.exp(odds)), 1: -math.log1p(math.exp(-odds))}
        return [Candidate(id=i, text=("bad", "good")[i], logprob=found[i]) for i in found][:top]


def test_a_model_that_is_too_sure_is_calibrated(tmp_path):
    rng = np.random.default_rng(3)
    odds = rng.normal(size=4000)
    labels = rng.random(4000) < 1 / (1 + np.exp(-odds))
    labelled = [(repr(float(x)), bool(good)) for x, good in zip(odds, labels, strict=True)]
    calibration, figures = calibrate(Boaster(), labelled, label="good")
    slope, offset = calibration.x[0], calibration.y[0]
    assert slope == pytest.approx(0.25, abs=0.02)  # a standard error is about .01
    assert offset == pytest.approx(0, abs=0.12)
    assert figures["calibration_error_before"] > 0.15 > 0.04 > figures["calibration_error"]
    document = Document.of("1.0", "s")
    score_documents(Boaster(), [document], tmp_path / "s.jsonl", label="good", calibration=calibration)
    score = json.loads((tmp_path / "s.jsonl").read_text())["score"]
    assert score == pytest.approx(1 / (1 + math.exp(-(4 * slope + offset))), abs=1e-9)


def test_too_few_labels_calibrate_nothing():
    with pytest.raises(DataError, match="9 of 100 labels are good"):
        calibrate(Boaster(), [(str(i), i < 9) for i in range(100)])
