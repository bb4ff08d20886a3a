"""Generation: phases, log-probabilities, stop strings, whole characters, timings and joules."""

from __future__ import annotations

import math

import pytest
import torch

from bloomery.engine import LanguageModel
from bloomery.engine.engine import EngineConfig
from bloomery.engine.results import Delta
from bloomery.engine.scheduler import SchedulerConfig


def collect(model: LanguageModel, prompt, **options) -> list[Delta]:
    return list(model.stream(prompt, **options))


@pytest.mark.parametrize("seed", range(8))
def test_stream_and_generate_agree(tiny: LanguageModel, seed: int):
    options = {"max_new_tokens": 40, "temperature": 1.3, "seed": seed, "logprobs": 2, "stop": ["e", "\n\n"]}
    deltas = collect(tiny, "Once upon", **options)
    result = tiny.generate("Once upon", **options)
    assert "".join(d.text for d in deltas) == result.text
    assert [i for d in deltas for i in d.token_ids] == result.token_ids
    assert [p for d in deltas for p in d.logprobs] == result.logprobs
    assert [t for d in deltas for t in d.top_logprobs or ()] == result.top_logprobs
    assert [d.finish_reason for d in deltas[:-1]] == [None] * (len(deltas) - 1)
    assert deltas[-1].finish_reason == result.finish_reason
    assert deltas[-1].result is not None and deltas[-1].result.token_ids == result.token_ids


def test_text_comes_in_whole_characters(tiny: LanguageModel):
    # Random weights make broken bytes: whatever is joined must equal decoding all ids at once.
    for seed in range(10):
        deltas = collect(tiny, "🔥", max_new_tokens=60, temperature=2.0, seed=seed, ignore_eos=True)
        result = deltas[-1].result
        assert result is not None
        assert "".join(d.text for d in deltas) == tiny.tokenizer.decode(result.token_ids)


def test_stop_strings_across_token_borders(tiny: LanguageModel):
    whole = tiny.generate("Once", max_new_tokens=60, seed=3, ignore_eos=True).text
    for start in (5, 17, 30):
        stop = whole[start : start + 6]
        deltas = collect(tiny, "Once", max_new_tokens=60, seed=3, ignore_eos=True, stop=stop)
        assert "".join(d.text for d in deltas) == whole[: whole.find(stop)]
        assert deltas[-1].finish_reason == "stop"


def test_eos_ends_and_is_counted_but_not_shown(tiny: LanguageModel):
    for seed in range(200):
        result = tiny.generate("Once", max_new_tokens=200, temperature=3.0, seed=seed)
        if result.finish_reason == "stop":
            assert result.token_ids[-1] in tiny.tokenizer.eos_ids
            assert len(result.logprobs) == len(result.token_ids)
            assert "<|" not in result.text
            return
    pytest.fail("no seed ended with an end token")


def test_logprobs_are_those_of_the_unmodified_distribution(tiny: LanguageModel):
    result = tiny.generate("Once", max_new_tokens=20, temperature=0.3, top_k=5, seed=1, logprobs=4, prompt_logprobs=2)
    ids = result.prompt_token_ids + result.token_ids
    rows = torch.log_softmax(tiny.logits(ids)[0], dim=-1)
    start = result.prompt_tokens
    expected = [float(rows[start + i - 1, token]) for i, token in enumerate(result.token_ids)]
    # Cached and uncached attention differ in the order of float32 sums only.
    assert result.logprobs == pytest.approx(expected, abs=1e-5)
    assert result.prompt_logprobs is not None and result.prompt_logprobs[0] is None
    found = [p.logprob for p in result.prompt_logprobs if p]
    assert found == pytest.approx([float(rows[i, t]) for i, t in enumerate(ids[1:start])], abs=1e-5)
    assert result.top_logprobs is not None
    for token, logprob, top in zip(result.token_ids, result.logprobs, result.top_logprobs, strict=True):
        assert len(top) == 4 and [t.logprob for t in top] == sorted((t.logprob for t in top), reverse=True)
        assert all(t.logprob == logprob for t in top if t.token_id == token)


@pytest.mark.parametrize("chunk", [1, 3, 7, 512])
def test_parts_of_prefill_do_not_change_the_answer(tiny: LanguageModel, chunk: int):
    whole = tiny.generate("Once upon a time there was", max_new_tokens=12, temperature=0, prompt_logprobs=0)
    config = EngineConfig(scheduler=SchedulerConfig(prefill_tokens=chunk))
    other = LanguageModel(tiny.decoder, tiny.tokenizer, name="parts", engine=config)
    parts = other.generate("Once upon a time there was", max_new_tokens=12, temperature=0, prompt_logprobs=0)
    assert parts.token_ids == whole.token_ids
    assert parts.prompt_logprobs is not None and whole.prompt_logprobs is not None
    one, two = ([p.logprob for p in r if p] for r in (parts.prompt_logprobs, whole.prompt_logprobs))
    assert one == pytest.approx(two, abs=1e-5)
    assert len(parts.prompt_logprobs) == parts.prompt_tokens


def test_no_new_tokens_only_scores(tiny: LanguageModel):
    result = tiny.generate("Once upon", max_new_tokens=0, prompt_logprobs=1)
    assert (result.text, result.token_ids, result.finish_reason) == ("", [], "length")
    assert result.prompt_logprobs is not None and len(result.prompt_logprobs) == result.prompt_tokens
    assert result.timings.decode_seconds == 0.0 and result.timings.tokens_per_second is None


def test_phases_are_timed_and_metered(tiny: LanguageModel):
    result = tiny.generate("Once", max_new_tokens=20, seed=0, ignore_eos=True)
    assert result.timings.prefill_seconds > 0 and result.timings.decode_seconds > 0
    assert result.timings.tokens_per_second is not None
    for joules in (result.prefill_energy, result.decode_energy, result.energy):
        assert not joules.known or (joules.central is not None and joules.central >= 0)


def test_the_seed_is_reported_and_repeats_the_text(tiny: LanguageModel):
    first = tiny.generate("Once", max_new_tokens=20)
    assert tiny.generate("Once", max_new_tokens=20, seed=first.seed).token_ids == first.token_ids


def test_rows_of_a_padded_vocabulary_are_never_chosen(tiny: LanguageModel, monkeypatch):
    monkeypatch.setattr(tiny.tokenizer, "vocab_size", 40)
    result = tiny.generate([5, 6], max_new_tokens=60, temperature=5.0, seed=0, ignore_eos=True)
    assert max(result.token_ids) < 40


def test_a_trace_tells_how_each_token_came(tiny: LanguageModel):
    options = {"max_new_tokens": 8, "temperature": 0.7, "top_k": 3, "seed": 4, "repetition_penalty": 1.3}
    result = tiny.generate("Once upon", trace=5, ignore_eos=True, logprobs=5, **options)
    assert result.token_ids == tiny.generate("Once upon", ignore_eos=True, **options).token_ids
    assert result.trace is not None and result.top_logprobs is not None
    assert [one.token_id for one in result.trace] == result.token_ids
    assert [one.phase for one in result.trace] == ["prefill"] + ["decode"] * 7
    assert [one.positions for one in result.trace] == [result.prompt_tokens + i for i in range(8)]
    times = [one.at_seconds for one in result.trace]
    assert times == sorted(times) and all(one.step_seconds > 0 for one in result.trace)
    for one, top in zip(result.trace, result.top_logprobs, strict=True):
        assert [c[:2] for c in one.candidates[:5]] == [tuple(t) for t in top]
        kept = [c.chosen_from for c in one.candidates if c.chosen_from is not None]
        assert len(kept) == 3 and sum(math.exp(p) for p in kept) == pytest.approx(1.0, abs=1e-5)
        assert one.token_id in {c.token_id for c in one.candidates if c.chosen_from is not None}
    assert tiny.generate("Once", max_new_tokens=2).trace is None
