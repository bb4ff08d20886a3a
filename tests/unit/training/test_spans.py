"""Span corruption over packed rows: what the rows become, and that a tokenizer must have sentinels."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import ConfigError
from bloomery.tokenizer import PackedRows, Tokenizer, TokenizerConfig, TokenShards, tokenize, train_tokenizer
from bloomery.training.building import NetConfig, build
from bloomery.training.corruption import SpanConfig
from bloomery.training.loader import RowLoader
from bloomery.training.spans import SpanObjective

NET = NetConfig(hidden_size=32, num_hidden_layers=1)


def test_every_row_is_its_source_and_its_spans(material):
    config = TokenizerConfig(vocab_size=450, sentinels=20)
    made = train_tokenizer(material.corpus, config=config, workspace=material.workspace)
    tokenizer = Tokenizer.load(made.path)
    assert len(tokenizer.sentinel_ids) == 20
    tokens = tokenize(material.corpus, made, workspace=material.workspace)
    rows = PackedRows(TokenShards(tokens, "train"), context_length=64, seed=0)
    model = build("spans", NET, tokenizer, context_length=64)
    objective = SpanObjective(model, RowLoader(rows, None), tokenizer, SpanConfig(), seed=0)  # type: ignore[arg-type]
    plain, following = PackedRows(TokenShards(tokens, "train"), context_length=64, seed=0).next_batch(4)
    batch = objective.next_batch(4)
    sentinels = set(tokenizer.sentinel_ids)
    for row in range(4):
        real = plain[row][following[row] != -100].tolist()
        source = batch.arrays["source_ids"][row][batch.arrays["source_mask"][row] == 1].tolist()
        target = [t for t in batch.arrays["labels"][row].tolist() if t != -100]
        spans: list[list[int]] = []
        for token in target[:-1]:
            if token in sentinels:
                spans.append([])
            else:
                spans[-1].append(token)
        restored: list[int] = []
        for token in source[:-1]:
            restored += spans.pop(0) if token in sentinels else [token]
        assert restored == real
    assert np.isfinite(float(batch.weight)) and not objective.can_validate()


def test_a_tokenizer_without_sentinels(material):
    tokenizer = Tokenizer.load(material.tokenizer.path)
    model = build("spans", NET, tokenizer, context_length=64)
    rows = PackedRows(TokenShards(material.tokens, "train"), context_length=64, seed=0)
    with pytest.raises(ConfigError, match="sentinel"):
        SpanObjective(model, RowLoader(rows, None), tokenizer, SpanConfig(), seed=0)  # type: ignore[arg-type]


def test_an_end_of_validation_of_one_token_is_left_out(material):
    """Nothing can be taken out of it: it once ended the run at its last validation."""
    made = train_tokenizer(
        material.corpus, config=TokenizerConfig(vocab_size=450, sentinels=20), workspace=material.workspace
    )
    tokenizer = Tokenizer.load(made.path)
    ids = np.array([[5, 6, 7, 8], [9, 10, 11, 12]])
    last = np.array([[6, -100, -100, -100], [-100] * 4])

    class Rows:
        def held_out(self):
            yield ids, ids
            yield ids, last

    model = build("spans", NET, tokenizer, context_length=64)
    objective = SpanObjective(model, Rows(), tokenizer, SpanConfig(), seed=0)  # type: ignore[arg-type]
    assert [batch.rows for batch in objective.held_out()] == [2]
