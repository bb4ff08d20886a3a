"""Metrics: parsed by Prometheus' own parser; unknown joules are counted as unknown."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from bloomery.core.quantity import Quantity
from bloomery.engine import GenerationResult, LanguageModel, Timings
from bloomery.engine.engine import EngineConfig
from bloomery.server.metrics import Metrics
from bloomery.server.waiting import WaitingRoom


def result(joules: Quantity) -> GenerationResult:
    return GenerationResult(
        text="",
        token_ids=[1, 2],
        logprobs=[0.0, 0.0],
        finish_reason="length",
        prompt_token_ids=[1, 2, 3],
        seed=0,
        timings=Timings(prefill_seconds=0.1, decode_seconds=0.2),
        prefill_energy=joules,
        decode_energy=Quantity.exact(2.0, "counter"),
    )


def values(metrics: Metrics) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {(s.name, *sorted(s.labels.values())): s.value for f in families for s in f.samples}


def test_counts_and_joules_by_phase():
    metrics = Metrics(WaitingRoom(max_running=1, max_waiting=0))
    metrics.choice("m", result(Quantity.exact(1.5, "estimated")))
    metrics.choice("m", result(Quantity.unknown()))
    metrics.first_token("m", 0.2)
    metrics.next_token("m", 0.01)
    metrics.request("m", queue_seconds=0.0, seconds=1.0, failed=True)
    found = values(metrics)
    assert found["bloomery:prompt_tokens_total", "m"] == 6
    assert found["bloomery:generation_tokens_total", "m"] == 4
    assert found["bloomery:request_success_total", "length", "m"] == 2
    assert found["bloomery:request_failure_total", "m"] == 1
    assert found["bloomery:energy_joules_total", "estimated", "m", "prefill"] == 1.5
    assert found["bloomery:energy_joules_total", "counter", "decode", "m"] == 4.0
    assert found["bloomery:energy_unknown_total", "m", "prefill"] == 1
    assert found["bloomery:time_to_first_token_seconds_count", "m"] == 1
    assert found["bloomery:num_requests_running",] == 0


def test_two_registries_do_not_mix():
    one, two = (Metrics(WaitingRoom(max_running=1, max_waiting=0)) for _ in range(2))
    one.first_token("m", 1.0)
    assert ("bloomery:time_to_first_token_seconds_count", "m") not in values(two)


def test_the_engines_counts_without_making_their_memory(tiny: LanguageModel):
    model = LanguageModel(tiny.decoder, tiny.tokenizer, name="fresh", engine=EngineConfig(block_size=4, drafts="ngram"))
    metrics = Metrics(WaitingRoom(max_running=1, max_waiting=0), lambda: [model])
    names = ("prefix_cache_queries", "prefix_cache_hits", "num_preemptions")
    names += ("spec_decode_num_draft_tokens", "spec_decode_num_accepted_tokens")
    before = values(metrics)
    assert before["bloomery:kv_cache_usage_perc", "fresh"] == 0
    assert [before[f"bloomery:{name}_total", "fresh"] for name in names] == [0] * 5
    assert model.engine._scheduler is None

    prompt = "one two one two one two one two one"
    found = [model.generate(prompt, max_new_tokens=24, temperature=0.0, ignore_eos=True) for _ in range(2)]
    after = values(metrics)
    told = [after[f"bloomery:{name}_total", "fresh"] for name in names]
    cached = found[1].timings.cached_tokens
    assert cached > 0
    assert told[:3] == [2 * found[0].prompt_tokens, cached, 0]
    assert told[3:] == [sum(r.timings.drafted_tokens for r in found), sum(r.timings.accepted_tokens for r in found)]
    assert told[3] > 0
    assert after["bloomery:kv_cache_usage_perc", "fresh"] == 0  # nobody runs; what is remembered is nobody's
