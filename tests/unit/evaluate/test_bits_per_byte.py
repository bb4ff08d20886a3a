"""Bits per byte against scoring one token at a time."""

from __future__ import annotations

import math

import pytest
import torch

from bloomery.core.errors import DataError
from bloomery.evaluate.bits_per_byte import bits_per_byte, scored_windows


@pytest.mark.parametrize("length", [1, 2, 5, 17, 18, 24, 25, 26, 100])
def test_every_token_is_scored_once_with_context(length: int):
    ids, window = list(range(length)), 16
    scored: list[int] = []
    for piece, count in scored_windows(ids, window):
        assert len(piece) <= window + 1
        scored += piece[len(piece) - count :] if count else []
        # At least half a window stands before each scored token, but at the beginning.
        assert piece[0] == 0 or len(piece) - count >= window // 2
    assert scored == ids[1:]


def test_equals_scoring_token_by_token(made):
    texts = ["return value", "grüße " * 30, "日本 code if else none"]
    result = bits_per_byte(made.loaded, texts)
    nats, tokens, context = 0.0, 0, made.loaded.config.max_position_embeddings
    tokenizer = made.loaded.tokenizer
    for text in texts:
        ids = [tokenizer.separator_id, *tokenizer.encode(text), tokenizer.end_id]
        starts = {}
        for piece, count in scored_windows(ids, context):
            end = len(starts) + 1 + count
            for position in range(len(starts) + 1, end):
                starts[position] = end - len(piece)
        for position, start in starts.items():
            logits = made.loaded.logits([ids[start:position]])
            nats -= torch.log_softmax(logits[0, -1].double(), -1)[ids[position]].item()
            tokens += 1
    size = sum(len(text.encode()) for text in texts)
    assert result.tokens == tokens and result.text_bytes == size and result.documents == 3
    # float32 sums in batches of different shapes
    assert result.bits_per_byte == pytest.approx(nats / size / math.log(2), rel=1e-5)
    assert result.nats_per_token == pytest.approx(nats / tokens, rel=1e-5)


def test_order_and_grouping_do_not_matter(made):
    texts = [f"value {n} " * (n % 7 + 1) for n in range(40)]
    heard: list[int] = []
    first = bits_per_byte(made.loaded, texts, progress=heard.append)
    second = bits_per_byte(made.loaded, reversed(texts))
    assert first.bits_per_byte == pytest.approx(second.bits_per_byte, rel=1e-6)
    assert heard[-1] == 40


def test_no_text(made):
    with pytest.raises(DataError, match="no text"):
        bits_per_byte(made.loaded, [])
