"""Beam search in the engine: transformers' texts and scores, shared memory, nothing left behind."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.core.errors import DeviceError, RequestError
from bloomery.engine import LanguageModel
from bloomery.engine.beams import BeamSteps
from bloomery.engine.engine import EngineConfig


@pytest.fixture(scope="module")
def reference(tiny_folder: Path):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("beams", [1, 3, 5])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_beams_are_those_of_transformers(tiny: LanguageModel, reference, beams: int, length_penalty: float):
    ids = tiny.encode_prompt("Once upon a time")
    expected = reference.generate(
        torch.tensor([ids]),
        num_beams=beams,
        num_return_sequences=beams,
        max_new_tokens=14,
        do_sample=False,
        length_penalty=length_penalty,
        return_dict_in_generate=True,
        output_scores=True,
    )
    model = LanguageModel(tiny.decoder, tiny.tokenizer, name="b", engine=EngineConfig(block_size=4))
    found = model.beam_search("Once upon a time", beams=beams, max_new_tokens=14, length_penalty=length_penalty)
    ends = tiny.tokenizer.eos_ids
    texts = [[i for i in row[len(ids) :].tolist() if i not in ends] for row in expected.sequences]
    assert [one.token_ids for one in found] == texts
    if beams > 1:
        # Float32 sums of a dozen log-probabilities.
        assert [one.score for one in found] == pytest.approx(expected.sequences_scores.tolist(), abs=1e-4)
    assert model.engine.scheduler.pool.num_used == 0


def test_beams_share_memory_and_go_beside_other_requests(tiny: LanguageModel):
    model = LanguageModel(tiny.decoder, tiny.tokenizer, name="b", engine=EngineConfig(block_size=4))
    stream = model.stream("def", max_new_tokens=30, temperature=0.0, ignore_eos=True)
    alone = tiny.generate("def", max_new_tokens=30, temperature=0.0, ignore_eos=True).token_ids
    first = [next(stream).token_ids[0] for _ in range(4)]
    beams = model.beam_search("Once upon", beams=4, max_new_tokens=10)
    assert first + [i for delta in stream for i in delta.token_ids] == alone
    assert len(beams) == 4 and beams == sorted(beams, key=lambda one: -one.score)
    assert model.engine.scheduler.pool.num_used == 0


def test_numbers_out_of_range_and_too_little_memory_are_refused(tiny: LanguageModel):
    wrong: list[Any] = [{"length_penalty": value} for value in (float("nan"), float("inf"), 100.0, -11, True, "1")]
    for options in [*wrong, {"beams": 0}, {"beams": 1000}, {"max_new_tokens": 0}, {"max_new_tokens": -1}]:
        with pytest.raises(RequestError):
            tiny.beam_search("Once", **options)
    model = LanguageModel(tiny.decoder, tiny.tokenizer, name="b", engine=EngineConfig(block_size=4, cache_tokens=40))
    with pytest.raises(DeviceError, match="4 beams"):
        model.beam_search("Once", beams=4, max_new_tokens=30)
    assert model.engine.scheduler.pool.num_used == 0


def test_samples_and_the_best_of_them(tiny: LanguageModel):
    options = {"max_new_tokens": 12, "temperature": 1.5, "seed": 3}
    drawn = tiny.samples("Once", 6, **options)
    assert drawn[0].token_ids == tiny.generate("Once", **options).token_ids
    assert len({tuple(one.token_ids) for one in drawn}) == 6
    best = tiny.samples("Once", 2, best_of=6, **options)
    means = sorted((sum(one.logprobs) / len(one.logprobs) for one in drawn), reverse=True)
    assert [one.mean_logprob for one in best] == pytest.approx(means[:2])
    with pytest.raises(RequestError):
        tiny.samples("Once", 3, best_of=2)


def test_results_have_the_beams_texts_and_the_first_the_cost(tiny: LanguageModel):
    model = LanguageModel(tiny.decoder, tiny.tokenizer, name="b", engine=EngineConfig(block_size=4))
    ids = model.encode_prompt("Once upon a time")
    found = model.beam_search("Once upon a time", beams=3, max_new_tokens=9)
    results = model.beam_results(ids, beams=3, max_new_tokens=9)
    assert [(one.text, one.token_ids, one.finish_reason) for one in results] == [
        (one.text, one.token_ids, one.finish_reason) for one in found
    ]
    first, *others = results
    assert first.timings.prefill_seconds > 0 and first.timings.decode_seconds > first.timings.prefill_seconds
    assert all(one.timings.decode_seconds == 0 and one.energy.central == 0.0 for one in others)


def test_who_finds_no_memory_waits_for_the_beams_that_have_it_without_haste(tiny: LanguageModel):
    config = EngineConfig(block_size=4, cache_tokens=256)
    model = LanguageModel(tiny.decoder, tiny.tokenizer, name="b", engine=config)
    steps, turns, looked = BeamSteps(model.engine), model.engine._step, []
    state = steps.begin(model.encode_prompt("Once upon a time"), 250, 1)
    with model.engine.exclusive() as (_, pool):
        pool.grow(state.tables[0], 256)
    model.engine._step = lambda told: looked.append(1) or turns(told)  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool:
        began = time.perf_counter()
        waiting = pool.submit(model.generate, "def", max_new_tokens=9, temperature=0.0, ignore_eos=True)
        time.sleep(0.3)
        assert not waiting.done() and 1 <= len(looked) <= 2 + (time.perf_counter() - began) / 0.01
        steps.close()
        assert len(waiting.result(timeout=60).token_ids) == 9


def test_the_pool_is_touched_in_steps_only(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch):
    """Between them another thread's step may be in the middle of it."""
    model = LanguageModel(tiny.decoder, tiny.tokenizer, name="b", engine=EngineConfig(block_size=4))
    pool, touched = model.engine.scheduler.pool, []
    for name in ("grow", "fork", "writable", "release"):
        plain = getattr(pool, name)

        def inside(*given, plain=plain, name=name):
            assert model.engine._stepping, name
            touched.append(name)
            return plain(*given)

        monkeypatch.setattr(pool, name, inside)
    assert len(model.beam_search("Once upon a time", beams=3, max_new_tokens=9)) == 3
    assert set(touched) == {"grow", "fork", "writable", "release"}


def test_a_search_that_is_cut_has_no_text_and_holds_nothing(tiny: LanguageModel):
    model = LanguageModel(tiny.decoder, tiny.tokenizer, name="b", engine=EngineConfig(block_size=4))
    ids, cancel = model.encode_prompt("Once upon a time"), threading.Event()
    late = model.beam_results(ids, beams=2, max_new_tokens=9, deadline=0.0)
    assert [(one.token_ids, one.finish_reason) for one in late] == [([], "deadline")] * 2
    steps = model.engine.exclusive
    calls = []

    def counted(phase=None):
        calls.append(1)
        if len(calls) == 5:  # in the middle
            cancel.set()
        return steps(phase)

    model.engine.exclusive = counted  # type: ignore[method-assign]
    left = model.beam_results(ids, beams=2, max_new_tokens=200, cancel=cancel)
    assert [one.finish_reason for one in left] == ["cancelled"] * 2 and len(calls) < 10
    assert left[0].timings.decode_seconds > 0 and left[0].timings.steps == 3  # of five: the memory, and the prompt
    assert model.engine.scheduler.pool.num_used == 0
