"""Greedy answers in training are the engine's."""

from __future__ import annotations

import runpy
from pathlib import Path

from bloomery.adapt.tuning.samples import greedy
from bloomery.engine import load_language_model

make_tiny_model = runpy.run_path(str(Path(__file__).parents[3] / "tiny_model.py"))["make_tiny_model"]


def test_greedy_is_the_engine_s(tmp_path: Path):
    model = load_language_model(make_tiny_model(tmp_path / "tiny"), device="cpu")
    ids = model.tokenizer.encode("Once upon")
    expected = model.generate(ids, max_new_tokens=12, temperature=0.0, ignore_eos=True).token_ids
    assert greedy(model.decoder, ids, max_new_tokens=12, ends=()) == list(expected)
    assert greedy(model.decoder, ids, max_new_tokens=12, ends={expected[3]}) == list(
        expected[: expected.index(expected[3])]
    )
    assert greedy(model.decoder, [5] * model.decoder.context_length, max_new_tokens=3, ends=()) == []
