"""`bloomery tokenize`."""

from __future__ import annotations

import json


def test_tokens_of_the_latest_corpus(call, tiny):
    answer = call("tokenize", "--home", str(tiny.home), "--json", "--quiet", "--set", "tokenizer.vocab_size=300")
    made = json.loads(answer.out)
    assert made["tokenizer"]["kind"] == "tokenizer" and made["tokens"]["kind"] == "tokens"
    assert made["tokens"]["metrics"]["tokens"]["train"] > 0
    text = call("tokenize", "--home", str(tiny.home), "--quiet", "--set", "tokenizer.vocab_size=300").out
    assert "bytes a token" in text


def test_unknown_corpus(call, tiny):
    assert "0000" in call.mistake("tokenize", "corpus-000000000000", "--home", str(tiny.home))


def test_no_corpus_yet(call, tmp_path):
    assert "bloomery curate" in call.mistake("tokenize", "--home", str(tmp_path))
