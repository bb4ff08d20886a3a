"""Log-probabilities on the wire: unique names, bytes kept, offsets into the text, no infinities."""

from __future__ import annotations

import json
import math

import pytest

from bloomery.engine import Delta, LanguageModel, PromptLogprob, TokenLogprob
from bloomery.server.logprobs import LegacyLogprobs, chat_logprobs, token_name


def test_names_keep_bytes_apart(tiny: LanguageModel):
    tokenizer = tiny.tokenizer
    names = [token_name(tokenizer, i) for i in range(tokenizer.vocab_size)]
    assert len(set(names)) == len(names)
    assert not any("\ufffd" in name for name in names)
    assert token_name(tokenizer, tokenizer.bos_id or 0) == "<|endoftext|>"
    (half,) = [i for i in range(tokenizer.vocab_size) if tokenizer.token_bytes(i) == b"\xf0"]
    assert token_name(tokenizer, half) == "bytes:\\xf0"


def test_offsets_point_into_the_text(tiny: LanguageModel):
    text = "über 🔥 iron"
    ids = tiny.tokenizer.encode(text)
    legacy = LegacyLogprobs(tiny.tokenizer, continues=False)
    legacy.add_prompt(ids, [None, *(PromptLogprob(token_id=i, logprob=-1.0) for i in ids[1:])])
    entries = legacy.take()
    assert entries["text_offset"][0] == 0 and entries["token_logprobs"][:2] == [None, -1.0]
    for name, offset in zip(entries["tokens"], entries["text_offset"], strict=True):
        if not name.startswith("bytes:"):
            assert text[offset:].startswith(name)
    assert legacy.take()["tokens"] == []


def test_the_chosen_token_is_among_the_alternatives_and_names_are_unique(tiny: LanguageModel, monkeypatch):
    legacy = LegacyLogprobs(tiny.tokenizer, continues=True)
    monkeypatch.setattr(tiny.tokenizer, "token_bytes", lambda i: b"same" if i in (10, 11) else b"%d" % i)
    top = (TokenLogprob(11, -0.5), TokenLogprob(12, -1.5))
    legacy.add_delta(Delta(token_ids=(10,), logprobs=(-3.0,), top_logprobs=(top,)))
    (alternatives,) = legacy.take()["top_logprobs"]
    assert alternatives == {"token_id:11": -0.5, "12": -1.5, "same": -3.0}


def test_impossible_tokens_are_finite_json(tiny: LanguageModel):
    delta = Delta(token_ids=(70,), logprobs=(-math.inf,), top_logprobs=((TokenLogprob(71, -math.inf),),))
    assert "-9999.0" in json.dumps(chat_logprobs(tiny.tokenizer, delta), allow_nan=False)


def test_chat_leaves_out_the_token_that_ends_the_turn(tiny: LanguageModel):
    end = tiny.tokenizer.eos_ids[0]
    delta = Delta(token_ids=(end,), logprobs=(-0.1,), finish_reason="stop")
    assert chat_logprobs(tiny.tokenizer, delta) == []
    (entry,) = chat_logprobs(tiny.tokenizer, Delta(token_ids=(70,), logprobs=(-0.1,)))
    assert entry["bytes"] == list(tiny.tokenizer.token_bytes(70)) and entry["logprob"] == pytest.approx(-0.1)
