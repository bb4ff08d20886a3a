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


def test_a_models_vocabulary_extended(call, tiny, tmp_path):
    home = ["--home", str(tiny.copy(tmp_path / "home")), "--quiet"]
    call("export", str(tmp_path / "model"), *home)
    command = ["tokenize", "--extend", str(tmp_path / "model"), "--set", "extend.tokens=8", *home]
    made = json.loads(call(*command, "--set", "extend.min_frequency=2", "--json").out)
    assert made["kind"] == "model" and made["metrics"]["added"] == 8
    assert "8 tokens added" in call(*command, "--set", "extend.min_frequency=2").out
    assert "tokens" in call.mistake(*command, "--set", "extend.tokns=8")
    assert "no model" in call.mistake("tokenize", "--extend", "model-000000000000", *home)
