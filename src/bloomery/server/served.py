"""ServedRequest: one HTTP request's choices, generated one after the other, and what they cost.

Runs in a worker thread. When it ends, however it ends, its joules go into the ledger and the metrics. This module
does not know wire formats.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bloomery.core.errors import BloomeryError
from bloomery.core.quantity import Quantity
from bloomery.core.workspace import Workspace
from bloomery.engine import Delta, GenerationResult, LanguageModel, VisionLanguageModel
from bloomery.engine.language_model import SamplingOptions
from bloomery.server.metrics import Metrics
from bloomery.server.visit import Visit
from bloomery.server.waiting import Job

log = logging.getLogger("bloomery.server")
CANCELLED_STATUS = 499


@dataclass(kw_only=True)
class ServedRequest:
    """`prompts` are token ids; choice `p * n + i` is the i-th of prompt p. `images` are those of the one prompt of a
    model that sees."""

    id: str
    route: str
    model: LanguageModel
    prompts: Sequence[Sequence[int]]
    n: int
    options: SamplingOptions
    job: Job
    metrics: Metrics
    workspace: Workspace | None
    images: Sequence[Any] = ()
    visit: Visit = field(default_factory=Visit)
    created: int = field(default_factory=lambda: int(time.time()))
    results: list[GenerationResult] = field(default_factory=list)

    def run(self) -> Iterator[tuple[int, Delta]]:
        """(choice, delta) pairs; stops when the job is cancelled."""
        status, last = 500, None
        self.visit.spend(prompt=sum(map(len, self.prompts)))
        try:
            for choice in range(len(self.prompts) * self.n):
                options = self._options(choice)
                for delta in self._stream(self.prompts[choice // self.n], options):
                    last = self._observe(delta, last)
                    yield choice, delta
                if self.job.cancel.is_set():
                    break
            status = CANCELLED_STATUS if self.job.cancel.is_set() else 200
        finally:
            self._record(status)

    def _stream(self, prompt: Sequence[int], options: SamplingOptions) -> Iterator[Delta]:
        if self.images and isinstance(self.model, VisionLanguageModel):
            return self.model.stream(prompt, image=self.images, cancel=self.job.cancel, **options)
        return self.model.stream(prompt, cancel=self.job.cancel, **options)

    def _options(self, choice: int) -> SamplingOptions:
        """Choices of one prompt differ in their seeds, which follow from the request's."""
        options = self.options.copy()
        seed, place = options.get("seed"), choice % self.n
        if seed is not None and place:
            options["seed"] = (seed + place * 0x9E3779B97F4A7C15) % 2**63
        return options

    def _observe(self, delta: Delta, last: float | None) -> float | None:
        now = time.perf_counter()
        if delta.token_ids:
            self.visit.spend(completion=len(delta.token_ids))
            if last is None:
                self.metrics.first_token(self.model.name, now - self.job.entered)
            else:
                self.metrics.next_token(self.model.name, now - last)
            last = now
        if delta.result is not None:
            self.results.append(delta.result)
            self.metrics.choice(self.model.name, delta.result)
            last = None if delta.result.completion_tokens == 0 else last
        return last

    def _record(self, status: int) -> None:
        seconds = time.perf_counter() - self.job.entered
        name = self.model.name
        self.metrics.request(name, queue_seconds=self.job.queue_seconds, seconds=seconds, failed=status == 500)
        energy = self.energy()
        self.visit.spend_energy(energy)
        if self.workspace is None:
            return
        usage = self.usage()
        try:
            self.workspace.ledger.add_request(
                request=self.id,
                route=self.route,
                model=name,
                status=status,
                prompt_tokens=usage["prompt_tokens"],
                completion_tokens=usage["completion_tokens"],
                seconds=seconds,
                energy_joules=energy,
                tenant=self.visit.tenant.name,
            )
        except BloomeryError as error:
            # The answer matters more to the client than our books; whoever runs the server must know.
            log.error("request %s is missing from the ledger: %s", self.id, error.one_line())

    def energy(self) -> Quantity:
        """Joules of all choices; unknown if one of them is, or if none was finished."""
        if not self.results:
            return Quantity.unknown()
        total = self.results[0].energy
        for result in self.results[1:]:
            total = total + result.energy
        return total

    def usage(self) -> dict[str, Any]:
        """OpenAI's usage object, with `energy_joules` and `timings` as extensions.

        A prompt that was read for several choices counts once.
        """
        prompt = sum(len(p) for p in self.prompts)
        new = sum(r.completion_tokens for r in self.results)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": new,
            "total_tokens": prompt + new,
            "energy_joules": self.energy().to_dict(),
            "timings": {
                "queue_seconds": self.job.queue_seconds,
                "prefill_seconds": sum(r.timings.prefill_seconds for r in self.results),
                "decode_seconds": sum(r.timings.decode_seconds for r in self.results),
            },
        }


def new_id(prefix: str) -> str:
    """`cmpl-` or `chatcmpl-` and 24 hex digits."""
    return f"{prefix}-{secrets.token_hex(12)}"
