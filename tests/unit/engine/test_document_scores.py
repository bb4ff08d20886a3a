"""Scores of documents by a classifier of ours, in the form that a corpus's rule reads."""

from __future__ import annotations

import json
import math

import pytest
import torch

import bloomery as bl
from bloomery.core.errors import ConfigError
from bloomery.corpus import Document
from bloomery.corpus.lists import documents_with_scores
from bloomery.engine.document_scores import score_documents
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
