"""`bloomery inspect tokens`."""

from __future__ import annotations

import json
import math

import pytest


def test_before_and_after_the_filters(call, tiny):
    options = ("--text", "term1 term", "--home", str(tiny.home), "--top", "5", "--top-k", "2", "--temperature", "0.5")
    view = json.loads(call("inspect", "tokens", *options, "--json").out)
    (place,) = view["places"]
    assert place["index"] == len(view["tokens"]) and len(place["candidates"]) == 5
    kept = [one for one in place["candidates"] if one["filtered_logprob"] is not None]
    assert sum(math.exp(one["filtered_logprob"]) for one in kept) == pytest.approx(1, abs=1e-5)
    out = call("inspect", "tokens", *options).out
    assert "the token after" in out and str(place["candidates"][0]["token_id"]) in out
    assert out.count(" - ") + out.count(" -\n") >= 3


def test_mistakes(call, tiny):
    assert "top_p" in call.mistake("inspect", "tokens", "--home", str(tiny.home), "--top-p", "7")
    assert "top" in call.mistake("inspect", "tokens", "--home", str(tiny.home), "--top", "0")
