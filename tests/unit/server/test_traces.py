"""Traces: spans of requests and their phases, with the conventions' names; content only where it is wanted."""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.trace import StatusCode

from bloomery.core.errors import ConfigError, MissingExtraError
from bloomery.core.quantity import Quantity
from bloomery.engine import GenerationResult, LanguageModel, Timings
from bloomery.server import ServeConfig, build_app
from bloomery.server.record import Record
from bloomery.server.traces import SCHEMA_URL, Traces, otlp_exporter

ANSWER = GenerationResult(
    text="an answer", token_ids=[7, 8], logprobs=[0.0, 0.0], finish_reason="stop", prompt_token_ids=[1], seed=0,
    timings=Timings(),
)  # fmt: skip
RECORD = Record(
    id="cmpl-1", route="/v1/chat/completions", model="m", tenant="alice", status=200, time=1000.0, seconds=2.0,
    queue_seconds=0.5, first_token_seconds=1.25, prompt_ids=[[1, 2, 3]], answers=[ANSWER], completion_tokens=2,
    prefill_seconds=0.25, decode_seconds=0.5, cached_tokens=1, energy=Quantity.exact(3.5, "estimated"),
    decode=lambda ids, special: "a prompt",
)  # fmt: skip


def spans(record: Record, *, content: bool = False) -> dict:
    exporter = InMemorySpanExporter()
    traces = Traces(exporter, content=content)
    traces.add(record)
    traces.close()
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_request_and_its_phases():
    found = spans(RECORD)
    whole = found["chat m"]
    times = {name: (span.start_time / 1e9 - 1000, span.end_time / 1e9 - 1000) for name, span in found.items()}
    assert times == {"chat m": (0, 2), "queue": (0, 0.5), "prefill": (0.5, 1.25), "decode": (1.25, 2)}
    assert whole.parent is None and whole.status.status_code == StatusCode.UNSET
    assert all(s.parent.span_id == whole.context.span_id for n, s in found.items() if n != "chat m")
    told = dict(whole.attributes)
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (3, 2)
    assert told["gen_ai.response.finish_reasons"] == ("stop",) and told["gen_ai.response.id"] == "cmpl-1"
    assert (told["bloomery.energy.joules"], told["bloomery.energy.method"]) == (3.5, "estimated")
    assert whole.instrumentation_scope.schema_url == SCHEMA_URL
    assert "a prompt" not in str([s.to_json() for s in found.values()])


def test_the_names_are_the_conventions_own():
    published = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI")}
    used = {name for name in spans(RECORD, content=True)["chat m"].attributes if name.startswith("gen_ai.")}
    assert len(used) == 10 and used <= published


def test_content_for_those_who_ask_for_it():
    told = spans(RECORD, content=True)["chat m"].attributes
    assert json.loads(told["gen_ai.input.messages"])[0]["parts"] == [{"type": "text", "content": "a prompt"}]
    assert json.loads(told["gen_ai.output.messages"])[0]["parts"][0]["content"] == "an answer"
    private = spans(dataclasses.replace(RECORD, private=True), content=True)["chat m"].attributes
    assert "gen_ai.input.messages" not in private


def test_a_failure_and_unknown_joules():
    more = {"status": 500, "energy": Quantity.unknown(), "answers": (), "first_token_seconds": None}
    found = spans(dataclasses.replace(RECORD, **more))
    assert set(found) == {"chat m", "queue", "prefill"}
    assert found["chat m"].status.status_code == StatusCode.ERROR
    assert "bloomery.energy.joules" not in found["chat m"].attributes


def test_without_the_extra_the_pip_line_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(MissingExtraError) as caught:
        otlp_exporter("http://localhost:4318/v1/traces")
    assert caught.value.hint == 'pip install "bloomery[otel]"'
    with pytest.raises(ConfigError):
        otlp_exporter("localhost:4318")


def test_a_server_traces_what_it_serves(tiny: LanguageModel, monkeypatch):
    exporter = InMemorySpanExporter()
    monkeypatch.setattr("bloomery.server.service.otlp_exporter", lambda endpoint: exporter)
    config = ServeConfig(api_key="", otlp_endpoint="http://localhost:4318/v1/traces")
    with TestClient(build_app(tiny, config=config), base_url="http://localhost") as client:
        body = {"model": "tiny", "prompt": "Once", "max_tokens": 3}
        whole = client.post("/v1/completions", json=body).json()
    found = {span.name: span for span in exporter.get_finished_spans()}
    assert set(found) == {"text_completion tiny", "queue", "prefill", "decode"}
    told = found["text_completion tiny"].attributes
    assert told["gen_ai.response.id"] == whole["id"]
    assert told["gen_ai.usage.output_tokens"] == whole["usage"]["completion_tokens"]
