"""EngineStats: zero before the first request, counts of what was done after it."""

from __future__ import annotations

import dataclasses

import pytest

from bloomery.engine import LanguageModel
from bloomery.engine.engine import EngineConfig
from bloomery.engine.engine_stats import EngineStats


def test_counts_begin_at_zero_and_are_what_was_done(tiny: LanguageModel) -> None:
    config = EngineConfig(native="off", cache_tokens=128)
    model = LanguageModel(tiny.decoder, tiny.tokenizer, name="stats", engine=config)
    assert model.engine.stats() == EngineStats()
    assert set(dataclasses.astuple(EngineStats())) == {0, ""}
    model.generate("iron", max_new_tokens=5, temperature=0.0, ignore_eos=True)
    stats = model.engine.stats()
    assert (stats.decode_steps, stats.native_steps, stats.drafted, stats.preemptions) == (4, 0, 0, 0)
    assert stats.decode_path.startswith("PyTorch")
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.drafted = 1  # type: ignore[misc]
