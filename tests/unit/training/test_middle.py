"""Rows with moved middles: nothing learnt twice, nothing lost but what is cut off, and counts that say so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.tokenizer import PackedRows, Tokenizer, TokenizerConfig, TokenShards, tokenize, train_tokenizer
from bloomery.training.building import NetConfig, build
from bloomery.training.corruption import MiddleConfig
from bloomery.training.middle import MiddleObjective


@pytest.fixture(scope="module")
def parts(material):
    config = TokenizerConfig(vocab_size=400, fill_in_the_middle=True)
    made = train_tokenizer(material.corpus, config=config, workspace=material.workspace)
    return Tokenizer.load(made.path), tokenize(material.corpus, made, workspace=material.workspace)


def _objective(parts, rate: float = 0.5) -> MiddleObjective:
    tokenizer, tokens = parts
    model = build("middle", NetConfig(hidden_size=32, num_hidden_layers=1), tokenizer, context_length=64)
    rows = PackedRows(TokenShards(tokens, "train"), context_length=64, seed=0)
    held_out = TokenShards(tokens, "validation")
    return MiddleObjective(model, rows, held_out, tokenizer, MiddleConfig(rate=rate), seed=0)  # type: ignore[arg-type]


def test_without_moves_the_rows_are_the_causal_ones(parts):
    objective = _objective(parts, rate=0)
    plain = PackedRows(TokenShards(parts[1], "train"), context_length=64, seed=0).next_batch(8)
    batch = objective.next_batch(8)
    assert np.array_equal(batch.arrays["input_ids"], plain[0]) and np.array_equal(batch.arrays["labels"], plain[1])


def test_rows_hold_the_documents_tokens_in_another_order(parts):
    objective = _objective(parts, rate=1)
    plain, _ = PackedRows(TokenShards(parts[1], "train"), context_length=64, seed=0).next_batch(8)
    batch = objective.next_batch(8)
    inputs, labels = batch.arrays["input_ids"], batch.arrays["labels"]
    learnt = labels[:, :-1] != -100
    assert np.array_equal(labels[:, :-1][learnt][:50], inputs[:, 1:][learnt][:50])  # next tokens, marks included
    assert objective.stats()["middle"]["rearranged"] > 0
    marks = list(parts[0].middle_ids)
    for row, before in zip(inputs, plain, strict=True):
        extra = np.isin(row, marks).sum()
        assert extra and set(row[~np.isin(row, marks)]) <= {*before.tolist(), *labels.ravel().tolist()}


def test_validation_gives_both_figures_and_leaves_the_counts(parts):
    objective = _objective(parts)
    objective.next_batch(4)
    before = objective.state_dict()
    found = objective.validate(None, torch.device("cpu"), "float32")
    assert found.headline == "bits_per_byte" and found.values["nats_per_token_rearranged"] > 0
    assert objective.state_dict() == before
    again = _objective(parts)
    again.load_state_dict(before)
    assert np.array_equal(again.next_batch(4).arrays["labels"], objective.next_batch(4).arrays["labels"])


def test_a_tokenizer_without_marks(material):
    tokenizer = Tokenizer.load(material.tokenizer.path)
    model = build("middle", NetConfig(hidden_size=32, num_hidden_layers=1), tokenizer, context_length=64)
    rows = PackedRows(TokenShards(material.tokens, "train"), context_length=64, seed=0)
    with pytest.raises(ConfigError, match="mark prefix"):
        MiddleObjective(model, rows, None, tokenizer, MiddleConfig(), seed=0)  # type: ignore[arg-type]
