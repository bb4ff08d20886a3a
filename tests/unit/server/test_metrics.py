"""Metrics: parsed by Prometheus' own parser; unknown joules are counted as unknown."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from bloomery.core.quantity import Quantity
from bloomery.engine import GenerationResult, LanguageModel, TextEncoder, Timings
from bloomery.engine.engine import EngineConfig
from bloomery.server import ServeConfig, build_app
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


def test_the_board_asks_for_nothing_that_is_not_there(client: TestClient):
    """Every metric of docs/grafana/bloomery.json is one of /metrics, with the labels that it is asked by."""
    body = {"model": "tiny", "prompt": "x", "max_tokens": 3}
    assert client.post("/v1/completions", json=body).status_code == 200
    ends = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    families = list(text_string_to_metric_families(client.get("/metrics").text))
    known = {f"{f.name}{end}" for f in families for end in ends[f.type]}
    labels = {s.name: set(s.labels) for f in families for s in f.samples}
    board = json.loads((Path(__file__).parents[3] / "docs" / "grafana" / "bloomery.json").read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    asked += [v["query"]["query"] for v in board["templating"]["list"] if v["type"] == "query"]
    assert len(asked) > 20
    for expression in asked:
        names = re.findall(r"bloomery:\w+", expression)
        assert names and set(names) <= known, expression
        wanted = {label for found in re.findall(r"by \(([^)]*)\)", expression) for label in found.split(", ")}
        wanted |= set(re.findall(r"[{,](\w+)=~", expression))
        for name in names:
            assert name not in labels or "sum by" not in expression or wanted <= labels[name], expression
    shown = {name for expression in asked for name in re.findall(r"bloomery:\w+", expression)}
    bases = {re.sub("_(total|bucket|sum|count)$", "", name) for name in shown}
    assert {f.name for f in families if not f.name.endswith("_created")} <= bases


def test_drift_of_what_is_served(tiny: LanguageModel):
    with TestClient(build_app(tiny, config=ServeConfig(api_key="", drift_window=30)), base_url="http://localhost") as c:

        def found(prompt: str) -> dict[tuple[str, ...], float]:
            body = {"model": "tiny", "prompt": [prompt] * 30, "max_tokens": 2, "temperature": 0}
            assert c.post("/v1/completions", json=body).status_code == 200, prompt
            families = text_string_to_metric_families(c.get("/metrics").text)
            return {
                (s.name, *sorted(s.labels.values())): s.value for f in families for s in f.samples if "drift" in s.name
            }

        first = found("Once upon a time")
        assert len(first) == 7 and not any(first.values())  # no distance yet
        same = found("Once upon a time")
        assert not any(value for name, value in same.items() if "p" not in name)
        assert same["bloomery:drift_distance", "p", "prompt_embedding", "tiny"] == 1.0  # chance alone
        changed = found("Жил был маленький горн")
    alerts = {name[1] for name, value in changed.items() if name[0] == "bloomery:drift_alert" and value}
    assert {"prompt_length", "prompt_script", "prompt_embedding"} <= alerts
    assert changed["bloomery:drift_distance", "ks", "prompt_length", "tiny"] == pytest.approx(
        28 / 30
    )  # compared every 7


def test_encoders_count_their_steps(minilm: TextEncoder):
    metrics = Metrics(WaitingRoom(max_running=1, max_waiting=0), lambda: [minilm])
    before = minilm.stats()
    minilm.embed(["one", "two"])
    text = metrics.text().decode()
    assert f'bloomery:encoder_steps_total{{model_name="minilm"}} {before.steps + 1.0}' in text
