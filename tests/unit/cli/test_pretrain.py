"""`bloomery pretrain`."""

from __future__ import annotations

import json
import re


def test_an_equal_call_returns_the_same_model(call, tiny):
    first = json.loads(call("pretrain", "--home", str(tiny.home), "--json", "--quiet", *tiny.sizes).out)
    before = call("runs", "--stage", "pretrain", "--home", str(tiny.home), "--json").out
    second = json.loads(call("pretrain", "--home", str(tiny.home), "--json", "--quiet", *tiny.sizes).out)
    assert first["id"] == second["id"]
    assert first["metrics"]["steps"] == 4
    assert call("runs", "--stage", "pretrain", "--home", str(tiny.home), "--json").out == before


def test_a_misspelt_key(call, tiny):
    line = call.mistake("pretrain", "--home", str(tiny.home), "--set", "pretrain.hiden_size=64")
    assert 'did you mean "hidden_size"?' in line


def test_impossible_sizes(call, tiny):
    line = call.error_line(
        call("pretrain", "--home", str(tiny.home), "--quiet", *tiny.sizes, "--set", "pretrain.num_attention_heads=5")
    )
    assert "multiple of 5 heads" in line


def test_fast_is_a_decoder_of_our_own_and_says_how_much_it_used(call, tiny, tmp_path):
    home = ("--home", str(tiny.copy(tmp_path / "home")))  # other tests take the latest model to export it
    said = call("pretrain", *home, "--fast", *tiny.sizes)
    assert re.search(r"utilisation \d+% of [\d.]+ [GTM]FLOP/s", said.out)
    made = json.loads(call("pretrain", *home, "--fast", "--json", "--quiet", *tiny.sizes).out)
    assert made["metrics"]["plan"]["model"]["model_type"] == "bloomery" and 0 < made["metrics"]["utilisation"] < 1
    line = call.mistake("export", str(tmp_path / "out"), "--model", made["id"], *home)
    assert "transformers, vLLM and llama.cpp do not run a decoder with value embeddings" in line
