"""ServedRequest: one HTTP request's choices, generated together, and what they cost.

Runs in a worker thread. When it ends, however it ends, its joules go into the ledger and the metrics. This module
does not know wire formats.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bloomery.core.quantity import Quantity
from bloomery.engine import Delta, GenerationResult, LanguageModel, VisionLanguageModel
from bloomery.engine.language_model import SamplingOptions, with_seed_of
from bloomery.engine.sequence import Request
from bloomery.models.image_processor import listed
from bloomery.server.beam_answers import Beams
from bloomery.server.embedding_drift import mean_embedding
from bloomery.server.inspection import inspected
from bloomery.server.metrics import Metrics
from bloomery.server.record import Reader, Record, tell
from bloomery.server.schemas import Inspect
from bloomery.server.visit import Visit
from bloomery.server.waiting import Job


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
    images: Sequence[Any] = ()
    visit: Visit = field(default_factory=Visit)
    """Whose tenant's caches are used, and where tokens and joules are noted."""
    continues: bool = True
    """Whether the new text goes on from the prompt's; a chat's does not."""
    best_of: int | None = None
    """So many are drawn for each prompt, and the `n` whose tokens are most probable on average are told."""
    beams: Beams | None = None
    """Searched, not drawn."""
    inspect: Inspect | None = None
    """What to tell of how each choice came to be."""
    readers: Sequence[Reader] = ()
    """Who is told of the request when it is over."""
    created: int = field(default_factory=lambda: int(time.time()))
    results: list[GenerationResult] = field(default_factory=list)
    _inspections: dict[int, dict[str, Any]] = field(default_factory=dict)
    _inspected_joules: list[Quantity] = field(default_factory=list)
    first_token_seconds: float | None = None
    """From arrival to the first token of any choice."""
    _finished: dict[int, GenerationResult] = field(default_factory=dict)

    def run(self) -> Iterator[tuple[int, Delta]]:
        """(choice, delta) pairs; stops when the job is cancelled."""
        status = 500
        last: dict[int, float] = {}
        self.visit.spend(prompt=sum(map(len, self.prompts)))
        try:
            for choice, delta in self._deltas():
                self._observe(choice, delta, last)
                if self.inspect is not None and delta.result is not None and not self.job.cancel.is_set():
                    told, joules = inspected(self.model, delta.result, self.inspect)
                    self._inspections[id(delta.result)] = told  # results are kept: their ids stay their own
                    self._inspected_joules.append(joules)
                yield choice, delta
            status = self.job.cut_status if self.job.cancel.is_set() else 504 if self.told_nothing else 200
        finally:
            self._record(status)

    def _deltas(self) -> Iterator[tuple[int, Delta]]:
        if self.beams is not None:
            return self.beams.search(self.model, [list(p) for p in self.prompts], self.options, self.job)
        return self.model.engine.run_all(self._requests())

    def _requests(self) -> list[Request]:
        """One for each prompt, with all of its choices."""
        requests = []
        for prompt in self.prompts:
            more: dict[str, Any] = {"tenant": self.visit.tenant.name, "priority": self.job.priority}
            more["deadline"] = self.job.deadline
            if self.images and isinstance(self.model, VisionLanguageModel):
                more |= self.model.illustrated(prompt, self.model.processor(listed(self.images)))
            options = self.options.copy()
            if self.inspect is not None:
                options["trace"] = self.inspect.probabilities or 1
            samples = [with_seed_of(options, place) for place in range(self.drawn)]
            requests.append(
                self.model.request(prompt, samples, continues=self.continues, cancel=self.job.cancel, **more)
            )
        return requests

    @property
    def drawn(self) -> int:
        """Texts that are drawn for each prompt."""
        return self.best_of or self.n

    @property
    def most_new_tokens(self) -> int:
        """How many tokens all texts may have together."""
        asked, model = self.options.get("max_new_tokens", 0), self.model
        room = min(model.context_length, model.engine.capacity) + 1
        return self.drawn * sum(max(0, min(asked, room - len(prompt))) for prompt in self.prompts)

    @property
    def told_nothing(self) -> bool:
        """Whether time was over before there was a token of any choice."""
        late = any(result.finish_reason == "deadline" for result in self.results)
        return late and not any(result.token_ids for result in self.results)

    def told(self, choices: list[list[Delta]]) -> list[list[Delta]]:
        """The choices that are told, of all that were drawn."""
        kept: list[list[Delta]] = []
        for start in range(0, len(choices), self.drawn):
            mine = choices[start : start + self.drawn]
            if self.drawn > self.n and self.beams is None:
                mine.sort(key=lambda deltas: -deltas[-1].result.mean_logprob if deltas[-1].result else 0.0)
            kept += mine[: self.n]
        return kept

    def inspected(self, delta: Delta) -> dict[str, Any]:
        """What is told beside a choice that ends with this delta; nothing unless it was asked for."""
        told = self._inspections.get(id(delta.result))
        return {} if told is None else {"inspect": told}

    def _observe(self, choice: int, delta: Delta, last: dict[int, float]) -> None:
        now = time.perf_counter()
        if delta.token_ids:
            self.visit.spend(completion=len(delta.token_ids))
            if self.first_token_seconds is None:
                self.first_token_seconds = now - self.job.entered
            if choice not in last:
                self.metrics.first_token(self.model.name, now - self.job.entered)
            else:
                self.metrics.next_token(self.model.name, now - last[choice])
            last[choice] = now
        if delta.result is not None:
            if self.beams is not None and delta.finish_reason in ("cancelled", "deadline"):
                # Nothing is told of what was computed until then, but it is used.
                self.visit.spend(completion=self.beams.width * delta.result.timings.steps)
            self.results.append(delta.result)
            self._finished[choice] = delta.result
            self.metrics.choice(self.model.name, delta.result)

    def _record(self, status: int) -> None:
        seconds = time.perf_counter() - self.job.entered
        name = self.model.name
        self.metrics.request(name, queue_seconds=self.job.queue_seconds, seconds=seconds, failed=status == 500)
        energy = self.energy()
        self.visit.spend_energy(energy)
        self.visit.settle()
        tell(self.readers, self._as_record(status, seconds))

    def _as_record(self, status: int, seconds: float) -> Record:
        usage = self.usage()
        timings = usage["timings"]
        return Record(
            id=self.id,
            route=self.route,
            model=self.model.name,
            tenant=self.visit.tenant.name,
            status=status,
            time=time.time() - seconds,
            seconds=seconds,
            queue_seconds=self.job.queue_seconds,
            first_token_seconds=self.first_token_seconds,
            prompt_ids=self.prompts,
            answers=self._answers(),
            completion_tokens=usage["completion_tokens"],
            prefill_seconds=timings["prefill_seconds"],
            decode_seconds=timings["decode_seconds"],
            cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
            energy=self.energy(),
            private=self.visit.private,
            decode=lambda ids, special: self.model.tokenizer.decode(ids, skip_special=not special),
            embed=lambda ids: None if self.images else mean_embedding(self.model, ids),
        )

    def _answers(self) -> list[GenerationResult]:
        """What was told, as far as it came to an end."""
        finished = [self._finished[choice] for choice in sorted(self._finished)]
        if len(finished) < len(self.prompts) * self.drawn:
            return finished
        told = self.told([[Delta(result=result)] for result in finished])
        return [deltas[-1].result for deltas in told if deltas[-1].result is not None]

    def energy(self) -> Quantity:
        """Joules of all choices; unknown if one of them is, or if none was finished."""
        if not self.results:
            return Quantity.unknown()
        total = self.results[0].energy
        for more in (*(result.energy for result in self.results[1:]), *self._inspected_joules):
            total = total + more
        return total

    def usage(self) -> dict[str, Any]:
        """OpenAI's usage object, with `energy_joules` and `timings` as extensions.

        A prompt that was read for several choices counts once.
        """
        prompt = sum(len(p) for p in self.prompts)
        new = sum(r.completion_tokens for r in self.results)
        encoded = sum(r.timings.encode_seconds for r in self.results)
        cached = sum({tuple(r.prompt_token_ids): r.timings.cached_tokens for r in self.results}.values())
        return {
            "prompt_tokens": prompt,
            "completion_tokens": new,
            "total_tokens": prompt + new,
            "prompt_tokens_details": {"cached_tokens": cached},
            "energy_joules": self.energy().to_dict(),
            "timings": {
                "queue_seconds": self.job.queue_seconds,
                **({"encode_seconds": encoded} if encoded else {}),
                "prefill_seconds": sum(r.timings.prefill_seconds for r in self.results),
                "decode_seconds": sum(r.timings.decode_seconds for r in self.results),
            },
        }


def new_id(prefix: str) -> str:
    """`cmpl-` or `chatcmpl-` and 24 hex digits."""
    return f"{prefix}-{secrets.token_hex(12)}"
