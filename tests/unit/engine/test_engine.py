"""Engine: batches give what each request gives alone, and what transformers gives; memory short or not; no leaks."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.core.errors import ConfigError, DataError, DeviceError, RequestError
from bloomery.core.quantity import Quantity
from bloomery.engine import GenerationResult, LanguageModel
from bloomery.engine.engine import EngineConfig
from bloomery.engine.engine_stats import EngineStats
from bloomery.engine.scheduler import SchedulerConfig
from bloomery.models import Decoder
from bloomery.models.native.library import library

PROMPTS = [
    "Once upon a time there was a small furnace",
    "def smelt(ore",
    "🔥",
    "Once upon a time there was a small oven that nobody",
    "a",
    "Ein Ofen, klein und heiß: über Nacht",
]


def engine_of(tiny: LanguageModel, **config) -> LanguageModel:
    return LanguageModel(tiny.decoder, tiny.tokenizer, name="other", engine=EngineConfig(**config))


def together(model: LanguageModel, prompts: list[str], **options) -> list[GenerationResult]:
    """The results of requests that begin at the same time."""
    requests = [model.request(model.encode_prompt(p), [options]) for p in prompts]
    results: dict[int, GenerationResult] = {}
    for number, delta in model.engine.run_all(requests):
        if delta.result is not None:
            results[number] = delta.result
    return [results[i] for i in range(len(prompts))]


@pytest.fixture(scope="module")
def expected(tiny: LanguageModel, tiny_folder: Path) -> list[list[int]]:
    """What transformers writes, prompt by prompt."""
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32).eval()
    found = []
    for prompt in PROMPTS:
        ids = torch.tensor([tiny.encode_prompt(prompt)])
        found.append(reference.generate(ids, max_new_tokens=40, do_sample=False)[0, ids.size(1) :].tolist())
    return found


CONFIGS = {
    "plain": {},
    "no prefix cache": {"prefix_cache": False},
    "blocks of one": {"block_size": 1},
    "short parts": {"scheduler": SchedulerConfig(prefill_tokens=3, prefill_tokens_beside_others=2)},
    "two at a time": {"scheduler": SchedulerConfig(max_running=2)},
    "short of memory": {"block_size": 4, "cache_tokens": 150},
    "static steps": {"static_steps": "plain"},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_mixed_batch_writes_what_transformers_writes(tiny: LanguageModel, expected: list[list[int]], name: str):
    model = engine_of(tiny, **CONFIGS[name])
    for _ in range(2):  # the second time, prompts are known
        results = together(model, PROMPTS, max_new_tokens=40, temperature=0.0)
        assert [r.token_ids for r in results] == expected
    scheduler = model.engine.scheduler
    assert scheduler.pool.num_used == 0 and not scheduler.running and not scheduler.waiting
    assert (scheduler.hit_tokens > 0) == (name != "no prefix cache")
    if name == "short of memory":
        assert scheduler.preemptions > 0


def test_a_seed_writes_the_same_alone_and_in_company(tiny: LanguageModel):
    options = {"max_new_tokens": 30, "temperature": 1.2, "top_p": 0.9, "seed": 5}
    alone = [tiny.generate(p, **options).token_ids for p in PROMPTS]
    assert [r.token_ids for r in together(engine_of(tiny), PROMPTS, **options)] == alone


def test_samples_of_one_prompt_read_it_once_and_differ(tiny: LanguageModel):
    model = engine_of(tiny)
    ids = model.encode_prompt(PROMPTS[0])
    options = [{"max_new_tokens": 25, "temperature": 1.5, "seed": seed, "ignore_eos": True} for seed in range(5)]
    results: dict[int, GenerationResult] = {}
    most = 0
    for number, delta in model.engine.run(model.request(ids, options)):
        most = max(most, model.engine.scheduler.pool.num_used)
        if delta.result is not None:
            results[number] = delta.result
    alone = [tiny.generate(PROMPTS[0], **one).token_ids for one in options]
    assert [results[i].token_ids for i in range(5)] == alone
    assert len({tuple(one) for one in alone}) == 5
    size = model.engine.config.block_size
    assert most <= len(ids) // size + 5 * (1 + -(-(25 + len(ids) % size) // size))
    assert results[0].timings.prefill_seconds == results[4].timings.prefill_seconds > 0


def test_a_known_prefix_is_not_read_again_and_tenants_do_not_share(tiny: LanguageModel):
    model = engine_of(tiny, block_size=4)
    ids = model.encode_prompt(PROMPTS[0])

    def ask(tenant: str, **options) -> GenerationResult:
        request = model.request(ids, [{"max_new_tokens": 4, "temperature": 0.0, **options}], tenant=tenant)
        *_, (_, last) = model.engine.run(request)
        assert last.result is not None
        return last.result

    first, again, stranger = ask("a"), ask("a"), ask("b")
    assert first.timings.cached_tokens == stranger.timings.cached_tokens == 0
    assert again.timings.cached_tokens == (len(ids) - 1) // 4 * 4
    assert first.token_ids == again.token_ids == stranger.token_ids
    scored = ask("a", prompt_logprobs=0)  # log-probabilities have to be computed
    assert scored.timings.cached_tokens == 0 and len(scored.prompt_logprobs or ()) == len(ids)


def test_short_of_memory_scores_and_log_probabilities_stay(tiny: LanguageModel):
    model = engine_of(tiny, block_size=2, cache_tokens=120, scheduler=SchedulerConfig(prefill_tokens=5))
    options = {"max_new_tokens": 30, "temperature": 0.0, "prompt_logprobs": 1, "logprobs": 1, "ignore_eos": True}
    results = together(model, PROMPTS, **options)
    assert model.engine.scheduler.preemptions > 0
    for prompt, result in zip(PROMPTS, results, strict=True):
        alone = tiny.generate(prompt, **options)
        assert result.token_ids == alone.token_ids
        assert result.logprobs == pytest.approx(alone.logprobs, abs=1e-5)
        one, two = ([p.logprob for p in r.prompt_logprobs or () if p] for r in (result, alone))
        assert one == pytest.approx(two, abs=1e-5)
        assert len(result.prompt_logprobs or ()) == result.prompt_tokens


def test_what_can_never_fit_is_refused_at_once(tiny: LanguageModel):
    model = engine_of(tiny, block_size=4, cache_tokens=40)
    with pytest.raises(RequestError, match="50 tokens, the memory for keys and values"):
        model.generate([5] * 50)
    result = model.generate("a", max_new_tokens=100, temperature=0.0, ignore_eos=True)
    assert result.prompt_tokens + result.completion_tokens == 41  # the last one is never read
    for wrong in ({"max_running": 0}, {"prefill_tokens": 0}, {"prefill_tokens_beside_others": 2.5}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            SchedulerConfig(**wrong)
    with pytest.raises(ConfigError):
        EngineConfig(cache_dtype="int3")


def test_int8_keys_and_values_write_nearly_the_same(tiny: LanguageModel):
    model = engine_of(tiny, cache_dtype="int8")
    result = model.generate(PROMPTS[0], max_new_tokens=20, temperature=0.0, prompt_logprobs=0)
    exact = tiny.generate(PROMPTS[0], max_new_tokens=20, temperature=0.0, prompt_logprobs=0)
    one, two = ([p.logprob for p in r.prompt_logprobs or () if p] for r in (result, exact))
    assert one == pytest.approx(two, abs=0.1)


def test_urgent_ones_come_first_and_push_others_out(tiny: LanguageModel):
    model = engine_of(tiny, scheduler=SchedulerConfig(max_running=1))
    ids = model.encode_prompt("a")

    def stream(priority: int) -> Iterator[int]:
        options = {"max_new_tokens": 30, "seed": 0, "ignore_eos": True}
        return (priority for _ in model.engine.run(model.request(ids, [options], priority=priority)))

    later = stream(5)
    order = list(itertools.islice(later, 10))
    order += list(stream(1))
    assert order == [5] * 10 + [1] * 30
    assert model.engine.scheduler.preemptions == 1
    assert len(list(later)) == 20


def test_a_deadline_ends_a_request_with_what_it_has(tiny: LanguageModel):
    model = engine_of(tiny)
    model.generate([5], max_new_tokens=2)  # the first step of a process finds out how steps are made best
    until = time.perf_counter() + 1.0
    deltas = model.engine.run(model.request([5], [{"max_new_tokens": 200, "ignore_eos": True}], deadline=until))
    next(deltas)
    time.sleep(max(0.0, until - time.perf_counter()))  # whoever reads takes a step, so it is over now
    *_, (_, last) = deltas
    assert last.result is not None and last.finish_reason == "deadline"
    assert 0 < last.result.completion_tokens < 200
    assert model.engine.scheduler.pool.num_used == 0


def test_numbers_that_are_none_end_the_request_that_has_them_and_no_other(tiny: LanguageModel, monkeypatch):
    model = engine_of(tiny, native="off")
    poison = tiny.tokenizer.encode("🔥")[0]
    hidden_states = tiny.decoder.hidden_states

    def broken(ids, **more):
        hidden = hidden_states(ids, **more)
        return hidden.masked_fill((ids == poison)[..., None], torch.nan) if poison in ids[0, -1:] else hidden

    monkeypatch.setattr(tiny.decoder, "hidden_states", broken)
    good = model.stream("a", max_new_tokens=20, temperature=0.0, ignore_eos=True)
    first = next(good)
    with pytest.raises(DataError, match="not a number"):
        model.generate([poison], max_new_tokens=3)
    assert first.token_ids and len(list(good)) == 19
    assert model.engine.scheduler.pool.num_used == 0


def test_threads_that_come_and_go_and_cancel_get_their_own_and_leave_nothing(tiny: LanguageModel):
    model = engine_of(tiny, block_size=4, cache_tokens=400)
    alone = {seed: tiny.generate(PROMPTS[seed % 6], max_new_tokens=20, seed=seed).token_ids for seed in range(24)}

    def ask(seed: int) -> bool:
        rng, cancel, found = random.Random(seed), threading.Event(), []
        stream = model.stream(PROMPTS[seed % 6], max_new_tokens=20, seed=seed, cancel=cancel)
        stop = rng.choice([None, None, rng.randrange(1, 9)])
        for delta in stream:
            found += delta.token_ids
            if stop is not None and len(found) >= stop:
                if rng.random() < 0.5:
                    cancel.set()
                else:
                    stream.close()  # type: ignore[attr-defined]
                    break
        return found == alone[seed] if stop is None else found == alone[seed][: len(found)]

    with ThreadPoolExecutor(12) as threads:
        assert all(threads.map(ask, range(24)))
    scheduler = model.engine.scheduler
    assert scheduler.pool.num_used == 0 and not scheduler.running and not scheduler.waiting
    assert not model.engine._tickets


@pytest.mark.parametrize("native", ["off", "on"])
def test_who_comes_with_a_short_prompt_is_told_in_the_middle_of_a_long_one(
    tiny: LanguageModel, expected: list[list[int]], monkeypatch: pytest.MonkeyPatch, native: str
):
    """A long prompt is stopped between two layers until the short request has come; then it must be told its first
    token before the long one goes on."""
    if native == "on" and library().calls is None:
        pytest.skip("no native step was built")
    model, alone = engine_of(tiny, native=native), engine_of(tiny, native=native)
    long = [5 + i % 200 for i in range(200)]
    *_, (_, wanted) = alone.engine.run(alone.request(long, [{"max_new_tokens": 12, "temperature": 0.0}]))
    scheduler, runner = model.engine.scheduler, model.engine._runner
    assert runner is not None
    came, told, read = threading.Event(), threading.Event(), []
    plain = runner.prefill

    def ask() -> list[int]:
        found: list[int] = []
        for delta in model.stream(PROMPTS[0], max_new_tokens=40, temperature=0.0):
            told.set()
            found += delta.token_ids
        return found

    def prefill(sequence, count, between=None):
        def stopped() -> None:
            came.set()
            while not scheduler.waiting:
                time.sleep(0.001)
            between()
            assert told.wait(20), "the first token waits for the long prompt"

        made = plain(sequence, count, stopped if count == len(long) else between)
        read.append(count)
        return made

    monkeypatch.setattr(runner, "prefill", prefill)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(lambda: came.wait(20) and ask())
        *_, (_, last) = model.engine.run(model.request(long, [{"max_new_tokens": 12, "temperature": 0.0}]))
        assert asked.result(60) == expected[0]
    assert last.result is not None and wanted.result is not None
    assert last.result.token_ids == wanted.result.token_ids
    assert read == [len(model.encode_prompt(PROMPTS[0])), len(long)]
    assert scheduler.pool.num_used == 0 and not scheduler.running


def test_abandoned_requests_go_on_with_the_others(tiny: LanguageModel):
    model = engine_of(tiny)
    left = model.stream("Once", max_new_tokens=10, seed=1, ignore_eos=True)
    next(left)
    model.generate("def", max_new_tokens=40, seed=2, ignore_eos=True)
    steps = model.engine._bench.busy_seconds
    assert len(list(left)) == 9
    assert model.engine._bench.busy_seconds == steps  # all was there already


class SteadyMeter:
    """Ten watts."""

    def __init__(self) -> None:
        self._started = time.perf_counter()

    def read(self) -> Quantity:
        return Quantity.exact(10.0 * (time.perf_counter() - self._started), "counter")

    def describe(self) -> dict:
        return {}

    def close(self) -> None:
        return None


def test_joules_of_a_batch_add_up_to_what_the_meter_saw(tiny: LanguageModel):
    meter = SteadyMeter()
    model = LanguageModel(tiny.decoder, tiny.tokenizer, name="metered", meter=meter)
    before = meter.read()
    results = together(model, PROMPTS, max_new_tokens=20, seed=0, ignore_eos=True)
    spent = (meter.read() - before).central
    told = sum(result.energy.central or 0.0 for result in results)
    assert spent is not None and all((result.energy.central or 0) > 0 for result in results)
    # What lies between steps belongs to nobody, and phases that overlap share unevenly; never more than there was.
    assert 0.5 * spent < told < 1.1 * spent
    for result in results:
        assert result.timings.prefill_seconds > 0 and result.timings.decode_seconds > 0
        assert result.timings.steps == 19


@pytest.mark.parametrize("error", [IndexError("beyond"), ValueError("odd"), RuntimeError("no memory")])
def test_any_error_of_a_model_is_told_to_whom_it_concerns_only(tiny: LanguageModel, monkeypatch, error: Exception):
    model = engine_of(tiny, block_size=4, native="off")
    hidden_states = tiny.decoder.hidden_states

    def broken(ids, **more):
        if ids.size(1) == 5 and int(ids[0, 0]) == 77:
            raise error
        return hidden_states(ids, **more)

    monkeypatch.setattr(tiny.decoder, "hidden_states", broken)
    good = model.stream("a", max_new_tokens=20, temperature=0.0, ignore_eos=True)
    first = next(good)
    bad = model.stream([77] * 5, max_new_tokens=3)
    with ThreadPoolExecutor(2) as threads:
        failed, rest = threads.submit(list, bad), threads.submit(list, good)
        with pytest.raises(type(error)):
            failed.result(timeout=30)
        assert first.token_ids and len(rest.result(timeout=30)) == 19
    assert model.engine.scheduler.pool.num_used == 0 and not model.engine._tickets


@pytest.mark.parametrize("at", range(1, 9))
def test_a_sample_that_fails_takes_its_siblings_along_and_nobody_else(tiny: LanguageModel, at: int):
    model = engine_of(tiny, block_size=4)
    options = {"max_new_tokens": 20, "temperature": 0.0, "ignore_eos": True}
    pair = model.request([5, 6, 7], [options, options])
    sampler, drawn = pair.generations[0].sampler, []
    choose = sampler.choose

    def failing(logits, best):
        drawn.append(1)
        if len(drawn) == at:
            raise DataError("cannot be met")
        return choose(logits, best)

    sampler.choose = failing  # type: ignore[method-assign]
    other = model.request([9, 9], [options])
    good = model.engine.run(other)
    found = [next(good)]
    with pytest.raises(DataError):
        list(model.engine.run(pair))
    found += list(good)
    assert len(found) == 20 and model.engine.scheduler.pool.num_used == 0


def test_an_abandoned_stream_that_the_garbage_collector_closes_holds_nobody_up(tiny: LanguageModel, monkeypatch):
    model = engine_of(tiny, native="off")
    hidden_states = tiny.decoder.hidden_states
    left = {"stream": model.stream("Once", max_new_tokens=50, ignore_eos=True)}
    next(left["stream"])

    def collecting(ids, **more):
        stream = left.pop("stream", None)
        if stream is not None:
            stream.close()  # as the collector would, in the thread that makes a step
        return hidden_states(ids, **more)

    monkeypatch.setattr(tiny.decoder, "hidden_states", collecting)
    assert len(list(model.stream("a", max_new_tokens=5, seed=0, ignore_eos=True))) == 5
    assert model.engine.scheduler.pool.num_used == 0


def test_seconds_of_guessing_are_told(tiny: LanguageModel):
    torch.manual_seed(0)
    small = Decoder(tiny.config)
    forward = small.forward

    def slow(*args, **more):
        time.sleep(0.02)
        return forward(*args, **more)

    small.forward = slow  # type: ignore[method-assign]
    model = LanguageModel(tiny.decoder, tiny.tokenizer, name="d", draft_model=small)
    began = time.perf_counter()
    timings = model.generate("Once", max_new_tokens=10, temperature=0.0, ignore_eos=True).timings
    wall = time.perf_counter() - began
    assert timings.prefill_seconds + timings.decode_seconds > 0.7 * wall


def test_stats_of_memory_that_is_short(tiny: LanguageModel):
    model = engine_of(tiny, block_size=4, cache_tokens=150)
    assert model.engine.stats() == EngineStats() and model.engine._scheduler is None
    requests = [
        model.request(model.encode_prompt(p), [{"max_new_tokens": 40, "temperature": 0.0, "ignore_eos": True}])
        for p in PROMPTS
    ]
    seen = [model.engine.stats().cache_usage for _ in model.engine.run_all(requests)]
    stats = model.engine.stats()
    assert 0.5 < max(seen) <= 1.0 and stats.cache_usage == 0.0
    assert stats.preemptions == model.engine.scheduler.preemptions > 0
    assert (stats.drafted, stats.accepted) == (0, 0)


def native_or_skip() -> None:
    if library().calls is None:
        pytest.skip(library().text)


@pytest.mark.parametrize("native", ["on", "off"])
@pytest.mark.parametrize("cache_dtype", ["auto", "float16", "int8"])
def test_native_steps_and_pytorchs_write_the_same(
    tiny: LanguageModel, expected: list[list[int]], native: str, cache_dtype: str
):
    native_or_skip()
    model = engine_of(tiny, native=native, cache_dtype=cache_dtype, drafts="ngram", block_size=4)
    assert model.engine.stats().decode_path == ""
    results = together(model, PROMPTS, max_new_tokens=40, temperature=0.0)
    if cache_dtype == "auto":
        assert [r.token_ids for r in results] == expected
    stats = model.engine.stats()
    assert stats.decode_steps > 0 and stats.native_steps == (stats.decode_steps if native == "on" else 0)
    assert stats.decode_path.startswith("native decode step" if native == "on" else "PyTorch: native steps are off")


@pytest.mark.parametrize("options", [{}, {"drafts": "ngram", "block_size": 4}, {"cache_tokens": 150, "block_size": 4}])
def test_native_steps_of_our_own_family_write_what_pytorch_writes(tiny: LanguageModel, options: dict[str, Any]):
    native_or_skip()
    own = {"value_embedding_layers": (0, 1), "bigram_vocab_size": 97, "smear": True, "x0_lambdas": True}
    decoder = Decoder(replace(tiny.decoder.config, model_type="bloomery", **own)).eval().requires_grad_(False)
    for number, parameter in enumerate(decoder.parameters()):
        parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(number))
    written = []
    for native in ("on", "off"):
        config = EngineConfig(native=native, **options)
        model = LanguageModel(decoder, tiny.tokenizer, name="own", engine=config)
        results = together(model, PROMPTS, max_new_tokens=40, temperature=0.0, ignore_eos=True)
        written.append([one.token_ids for one in results])
        assert (model.engine.stats().native_steps > 0) == (native == "on")
    assert written[0] == written[1] and len({tuple(one) for one in written[0]}) == len(PROMPTS)


def test_native_steps_give_a_request_the_same_numbers_whoever_is_there(tiny: LanguageModel):
    """To the last bit: so a seed gives the same tokens, at any temperature."""
    native_or_skip()
    options = {"max_new_tokens": 24, "temperature": 1.0, "seed": 3, "logprobs": 2, "ignore_eos": True}
    model = engine_of(tiny, native="on", prefix_cache=False)
    company = together(model, PROMPTS * 2, **options)
    for number, prompt in enumerate(PROMPTS):
        (alone,) = together(model, [prompt], **options)
        for result in (company[number], company[number + len(PROMPTS)]):
            assert result.token_ids == alone.token_ids
            assert result.logprobs == alone.logprobs


def test_native_steps_may_be_forbidden_and_demanded(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match="unknown native 'maybe'"):
        EngineConfig(native="maybe")
    monkeypatch.setenv("BLOOMERY_NATIVE", "off")
    model = engine_of(tiny)
    together(model, PROMPTS[:1], max_new_tokens=3)
    assert model.engine.stats().decode_path == "PyTorch: the native step is off: BLOOMERY_NATIVE=off"
    with pytest.raises(DeviceError, match="no native steps: PyTorch: the native step is off"):
        together(engine_of(tiny, native="on"), PROMPTS[:1], max_new_tokens=3)
