"""Metrics: what /metrics tells Prometheus, under vLLM's names with the prefix `bloomery:`.

A registry of its own, so that two servers in one process do not mix. This module does not know requests' content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bloomery.core.quantity import Quantity
from bloomery.engine import GenerationResult, LanguageModel, TextEncoder
from bloomery.server.drift import DriftWatch
from bloomery.server.waiting import WaitingRoom

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_TOKEN_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


_ENGINE_COUNTERS = {
    "prefix_cache_queries": ("prefix_queries", "Tokens looked up in what is known of earlier prompts"),
    "prefix_cache_hits": ("prefix_hits", "Tokens found there"),
    "num_preemptions": ("preemptions", "Sequences that gave their memory back"),
    "spec_decode_num_draft_tokens": ("drafted", "Tokens guessed"),
    "spec_decode_num_accepted_tokens": ("accepted", "Tokens guessed right"),
}


_ENCODER_COUNTERS = {
    "encoder_steps": ("steps", "Steps of text encoders, each for all requests that waited then"),
    "encoder_batches": ("asked", "Batches of texts that were computed in them"),
    "encoder_tokens": ("size", "Tokens of these texts"),
}


class EngineCollector(Collector):
    """What the engines of the models that are served now have counted, read when it is asked."""

    def __init__(self, models: Callable[[], Iterable[LanguageModel | TextEncoder]]) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        models, label = list(self._models()), ["model_name"]
        found = [(model.name, model.engine.stats()) for model in models if isinstance(model, LanguageModel)]
        encoded = [(model.name, model.stats()) for model in models if isinstance(model, TextEncoder)]
        usage = GaugeMetricFamily(
            "bloomery:kv_cache_usage_perc", "Share of key/value memory in use, 0 to 1", None, label
        )
        for name, stats in found:
            usage.add_metric([name], stats.cache_usage)
        yield usage
        for metric, (field, text) in _ENGINE_COUNTERS.items():
            counter = CounterMetricFamily(f"bloomery:{metric}", text, None, label)
            for name, stats in found:
                counter.add_metric([name], getattr(stats, field))
            yield counter
        for metric, (field, text) in _ENCODER_COUNTERS.items():
            counter = CounterMetricFamily(f"bloomery:{metric}", text, None, label)
            for name, stats in encoded:
                counter.add_metric([name], getattr(stats, field))
            yield counter


class DriftCollector(Collector):
    """What the watch found last."""

    def __init__(self, watch: DriftWatch) -> None:
        self._watch = watch

    def collect(self) -> Iterator[Metric]:
        labels = ["model_name", "kind"]
        alert = GaugeMetricFamily("bloomery:drift_alert", "1: not as it was", None, labels)
        far = GaugeMetricFamily(
            "bloomery:drift_distance", "Of the newest window from the reference", None, [*labels, "statistic"]
        )
        for model, kind, drift in self._watch.now():
            alert.add_metric([model, kind], float(drift.alert))
            for statistic, value in drift.distance.items():
                far.add_metric([model, kind, statistic], value)
        yield alert
        yield far


class Metrics:
    """Thread-safe. Every series but the two gauges carries the label `model_name`."""

    def __init__(
        self,
        room: WaitingRoom,
        models: Callable[[], Iterable[LanguageModel | TextEncoder]] = tuple,
        drift: DriftWatch | None = None,
    ) -> None:
        """`models` are those that are served when /metrics is asked."""
        self.registry = registry = CollectorRegistry()
        registry.register(EngineCollector(models))
        if drift is not None:
            registry.register(DriftCollector(drift))
        label = ["model_name"]

        def histogram(name: str, text: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
            return Histogram(f"bloomery:{name}", text, label, buckets=buckets, registry=registry)

        running = Gauge("bloomery:num_requests_running", "Requests being generated", registry=registry)
        running.set_function(lambda: room.running)
        waiting = Gauge("bloomery:num_requests_waiting", "Requests waiting for their turn", registry=registry)
        waiting.set_function(lambda: room.waiting)
        self._prompt_tokens = Counter("bloomery:prompt_tokens", "Prompt tokens read", label, registry=registry)
        self._new_tokens = Counter("bloomery:generation_tokens", "Tokens generated", label, registry=registry)
        self._success = Counter(
            "bloomery:request_success", "Finished choices", [*label, "finished_reason"], registry=registry
        )
        self._failures = Counter("bloomery:request_failure", "Failed requests", label, registry=registry)
        self._joules = Counter(
            "bloomery:energy_joules", "Joules, central value", [*label, "phase", "method"], registry=registry
        )
        self._unmetered = Counter(
            "bloomery:energy_unknown", "Phases whose joules are unknown", [*label, "phase"], registry=registry
        )
        self._first_token = histogram("time_to_first_token_seconds", "Arrival to first token")
        self._between = histogram("inter_token_latency_seconds", "Between two tokens", _TOKEN_SECONDS)
        self._whole = histogram("e2e_request_latency_seconds", "Arrival to end")
        self._queue = histogram("request_queue_time_seconds", "Waiting")
        self._prefill = histogram("request_prefill_time_seconds", "Prefill")
        self._decode = histogram("request_decode_time_seconds", "Decode")

    def first_token(self, model: str, seconds: float) -> None:
        self._first_token.labels(model).observe(seconds)

    def next_token(self, model: str, seconds: float) -> None:
        self._between.labels(model).observe(seconds)

    def choice(self, model: str, result: GenerationResult) -> None:
        """Count one finished choice."""
        self._prompt_tokens.labels(model).inc(result.prompt_tokens)
        self._new_tokens.labels(model).inc(result.completion_tokens)
        self._success.labels(model, result.finish_reason).inc()
        self._prefill.labels(model).observe(result.timings.prefill_seconds)
        self._decode.labels(model).observe(result.timings.decode_seconds)
        if result.timings.encode_seconds:
            self._energy(model, "encode", result.encode_energy)
        self._energy(model, "prefill", result.prefill_energy)
        self._energy(model, "decode", result.decode_energy)

    def embedded(self, model: str, *, prompt_tokens: int, seconds: float, joules: Quantity) -> None:
        """Count the reading of one request's texts."""
        self._prompt_tokens.labels(model).inc(prompt_tokens)
        self._success.labels(model, "stop").inc()
        self._prefill.labels(model).observe(seconds)
        self._energy(model, "prefill", joules)

    def passed(self, model: str, *, prompt_tokens: int, new_tokens: int, reasons: Iterable[str]) -> None:
        """Count what another process has answered, whose phases are not known here."""
        self._prompt_tokens.labels(model).inc(prompt_tokens)
        self._new_tokens.labels(model).inc(new_tokens)
        for reason in reasons:
            self._success.labels(model, reason).inc()

    def spent(self, model: str, joules: Quantity) -> None:
        """Count joules of a request as a whole."""
        self._energy(model, "request", joules)

    def request(self, model: str, *, queue_seconds: float, seconds: float, failed: bool) -> None:
        """Count one request that has ended."""
        self._queue.labels(model).observe(queue_seconds)
        self._whole.labels(model).observe(seconds)
        if failed:
            self._failures.labels(model).inc()

    def _energy(self, model: str, phase: str, joules: Quantity) -> None:
        if joules.central is None:
            self._unmetered.labels(model, phase).inc()
        else:
            self._joules.labels(model, phase, joules.method).inc(joules.central)

    def text(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)
