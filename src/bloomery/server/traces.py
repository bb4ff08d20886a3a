"""Traces: each request as OpenTelemetry spans, sent over OTLP/HTTP; the GenAI conventions of version 1.37.0.

A span of the request, with the model, tokens, finish reasons and joules, and under it spans of its phases: queue (until
its turn), prefill (until the first token), decode (until the end). They are made when the request is over, with the
times that it had. Content only if `content` is asked for, and never of a request with `store: false`. The conventions'
names stand in this file and nowhere else: https://github.com/open-telemetry/semantic-conventions/tree/v1.37.0/docs/gen-ai
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bloomery import __version__
from bloomery.core.errors import ConfigError, MissingExtraError
from bloomery.server.record import Record

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

SCHEMA_URL = "https://opentelemetry.io/schemas/1.37.0"
_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
_FLUSH_MILLISECONDS = 2_000


def otlp_exporter(endpoint: str) -> SpanExporter:
    """Sends to an OTLP/HTTP address such as http://localhost:4318/v1/traces. MissingExtraError without the extra
    "otel", ConfigError for what is no such address."""
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigError(f"{endpoint!r:.100} is no address for traces", hint="http://localhost:4318/v1/traces")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise MissingExtraError("opentelemetry-exporter-otlp-proto-http", "otel", "sending traces") from None
    return OTLPSpanExporter(endpoint=endpoint)


class Traces:
    """`add` takes requests that are over; spans are sent in batches from a thread of their own."""

    def __init__(self, exporter: SpanExporter, *, content: bool = False) -> None:
        """MissingExtraError without the extra "otel"."""
        try:
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            raise MissingExtraError("opentelemetry-sdk", "otel", "making traces") from None
        resource = Resource.create({"service.name": "bloomery", "service.version": __version__}, SCHEMA_URL)
        self._content = content
        # Not the global provider: two servers in one process do not mix.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("bloomery", __version__, schema_url=SCHEMA_URL)

    def add(self, record: Record) -> None:
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        begin = int(record.time * 1e9)
        end = begin + int(record.seconds * 1e9)
        operation = _OPERATIONS.get(record.route, "text_completion")
        attributes = _attributes(record, operation)
        if self._content and not record.private:
            attributes |= _content(record)
        span = self._tracer.start_span(
            f"{operation} {record.model}",
            context=Context(),
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=begin,
        )
        if record.status >= 500:
            span.set_attribute("error.type", str(record.status))
            span.set_status(Status(StatusCode.ERROR))
        inside = set_span_in_context(span)
        for name, start, stop, more in _phases(record, begin, end):
            self._tracer.start_span(name, context=inside, attributes=more, start_time=start).end(stop)
        span.end(end)

    def close(self) -> None:
        """Send what is left, for two seconds at most."""
        self._provider.force_flush(_FLUSH_MILLISECONDS)
        self._provider.shutdown()


def _attributes(record: Record, operation: str) -> dict[str, Any]:
    told: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "bloomery",
        "gen_ai.request.model": record.model,
        "gen_ai.response.model": record.model,
        "gen_ai.response.id": record.id,
        "gen_ai.usage.input_tokens": record.prompt_tokens,
        "http.response.status_code": record.status,
        "http.route": record.route,
        # Ours: the conventions know neither joules, tenants nor what was found in the cache.
        "bloomery.tenant": record.tenant,
        "bloomery.usage.cached_tokens": record.cached_tokens,
        "bloomery.energy.method": record.energy.method,
    }
    if operation != "embeddings":
        told["gen_ai.usage.output_tokens"] = record.completion_tokens
        told["gen_ai.response.finish_reasons"] = record.finish_reasons
    if record.energy.central is not None:
        told["bloomery.energy.joules"] = record.energy.central
    return told


def _content(record: Record) -> dict[str, str]:
    """The prompts as the model read them, and the answers, in the conventions' form of messages."""
    if not record.texts:
        return {}
    prompts = [{"role": "user", "parts": [{"type": "text", "content": text}]} for text in record.prompts()]
    answers = [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": text}],
            "finish_reason": reason,
        }
        for (text, _), reason in zip(record.texts, record.finish_reasons, strict=True)
    ]
    return {"gen_ai.input.messages": json.dumps(prompts), "gen_ai.output.messages": json.dumps(answers)}


def _phases(record: Record, begin: int, end: int) -> list[tuple[str, int, int, dict[str, Any]]]:
    """(name, start, end, attributes), in nanoseconds. Embeddings have no first token: all is prefill."""
    turn = min(end, begin + int(record.queue_seconds * 1e9))
    first = end if record.first_token_seconds is None else min(end, begin + int(record.first_token_seconds * 1e9))
    first = max(turn, first)
    phases: list[tuple[str, int, int, dict[str, Any]]] = [("queue", begin, turn, {})]
    phases.append(("prefill", turn, first, {"bloomery.compute_seconds": record.prefill_seconds}))
    if record.first_token_seconds is not None:
        phases.append(("decode", first, end, {"bloomery.compute_seconds": record.decode_seconds}))
    return phases
