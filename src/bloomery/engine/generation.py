"""Generation: what one request's tokens become: text in whole characters, stop strings, log-probabilities, a result.

Tokens come in one by one, deltas go out. Prefill gives the first token, decode the rest; each phase is timed and
metered by itself. This module does not know models, memory, PyTorch, nor which other requests there are.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, cast

from bloomery.core.quantity import Quantity
from bloomery.engine.metering import Bench, Phase
from bloomery.engine.params import SamplingParams
from bloomery.engine.results import (
    Delta,
    FinishReason,
    GenerationResult,
    PromptLogprob,
    Timings,
    TokenLogprob,
    TokenTrace,
)
from bloomery.engine.stops import StopStrings
from bloomery.tokenizer import StreamDecoder, Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from bloomery.engine.sampling import LogProbabilities


class Chooses(Protocol):
    """What a sampler tells beside the tokens that it chooses."""

    seed: int

    @property
    def finished(self) -> bool: ...


class Probable(Protocol):
    """Natural log-probabilities of a row of logits (V,); `sampling.LogProbabilities` knows all of them."""

    def of(self, token: int) -> float: ...


class StepView(TypedDict):
    """What a trace says of a step; see `TokenTrace`."""

    phase: str
    step_seconds: float
    step_tokens: int
    step_sequences: int


class Generation:
    """One request's side of the engine. `accept` and `end` return what is to be told; after `end` nothing follows."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        sampler: Chooses,
        max_new_tokens: int,
        continues: bool,
        bench: Bench,
    ) -> None:
        """`sampler` chooses the tokens; `continues`: the new text goes on from the prompt's, so a space at its start is
        kept."""
        self.params = params
        self.max_new_tokens = max_new_tokens
        self.num_words = tokenizer.vocab_size
        self.sampler: Any = sampler
        self.cached_tokens = self.drafted_tokens = self.accepted_tokens = 0
        self.waiting_seconds = 0.0
        self.finished = False
        self._prompt = list(prompt_ids)
        self._eos_ids = frozenset(() if params.ignore_eos else tokenizer.eos_ids)
        self._bench = bench
        self._began = time.perf_counter()
        self._encode: Phase | None = None
        self._prefill: Phase | None = None
        self._decode: Phase | None = None
        self._characters = StreamDecoder(tokenizer, continues=continues)
        self._stops = StopStrings(params.stop)
        self._text: list[str] = []
        self._ids: list[int] = []
        self._logprobs: list[float] = []
        self._top: list[tuple[TokenLogprob, ...]] = []
        self._prompt_logprobs: list[PromptLogprob | None] = [None]
        self._trace: list[TokenTrace] = []

    @property
    def num_new(self) -> int:
        """New tokens so far."""
        return len(self._ids)

    def begin(self) -> None:
        """The first step of this request is about to be made: its prefill begins now."""
        if self._prefill is None:
            self.waiting_seconds = time.perf_counter() - self._began
            self._prefill = Phase(self._bench)

    def encoded(self, seconds: float, share: float) -> None:
        """Pictures of the prompt were encoded: a phase of its own, before and between parts of prefill."""
        if self._encode is None:
            self._encode = Phase(self._bench, since=self._prefill)
        self._encode.add(seconds, share)

    def spend(self, seconds: float, share: float, *, steps: int = 1) -> None:
        """A step in which the request took part is over; it goes to the phase that the request is in."""
        phase = self._decode or self._prefill
        assert phase is not None
        phase.add(seconds, share, steps=steps)

    def prefilled(self) -> None:
        """The prompt has been read."""
        if self._decode is None and self._prefill is not None:
            self._prefill.close()
            if self._encode is not None:
                self._encode.close()
            self._decode = Phase(self._bench)

    def unscored(self, count: int) -> None:
        """So many of the prompt's tokens, from the second on, are not scored: they were read before."""
        self._prompt_logprobs += [None] * count

    def score(self, rows: Tensor, targets: Sequence[int]) -> None:
        """Record the prompt's tokens: rows (t, V) of log-probabilities, row i predicts targets[i]."""
        from bloomery.engine.sampling import most_probable

        count = self.params.prompt_logprobs or 0
        for row, target in zip(rows, targets, strict=True):
            top = most_probable(row[: self.num_words], count) if count else ()
            self._prompt_logprobs.append(PromptLogprob(token_id=target, logprob=float(row[target]), top=top))

    def traced(self, one: TokenTrace, step: StepView) -> None:
        """How the token that is accepted next came."""
        at = time.perf_counter() - self._began
        self._trace.append(replace(one, at_seconds=at, **step))

    def accept(self, token: int, logprobs: Probable) -> Delta:
        """Take the next token, chosen with such log-probabilities; `finished` says whether it was the last."""
        self._ids.append(token)
        self._logprobs.append(logprobs.of(token))
        if self.params.logprobs is not None:
            self._top.append(self._alternatives(cast("LogProbabilities", logprobs), self.params.logprobs))
        text, reason = self._read(token)
        delta = self._delta(text, new_token=True)
        return delta if reason is None else self._finish(delta, reason)

    def end(self, reason: FinishReason) -> Delta:
        """End without a further token."""
        return self._finish(self._delta(self._flush(), new_token=False), reason)

    def _alternatives(self, logprobs: LogProbabilities, count: int) -> tuple[TokenLogprob, ...]:
        from bloomery.engine.sampling import most_probable

        return most_probable(logprobs.all()[: self.num_words], count) if count else ()

    def _read(self, token: int) -> tuple[str, FinishReason | None]:
        """Text that can be shown now, and why the generation ends here, if it does."""
        if token in self._eos_ids:
            return self._flush(), "stop"
        text = self._stops.push(self._characters.push(token))
        if self._stops.found is not None:
            return text, "stop"
        if self.sampler.finished:
            return text + self._flush(), "stop"
        if len(self._ids) >= self.max_new_tokens:
            text += self._flush()
            return text, "stop" if self._stops.found is not None else "length"
        return text, None

    def _flush(self) -> str:
        text = self._stops.push(self._characters.finish())
        return text + self._stops.finish()

    def _delta(self, text: str, *, new_token: bool) -> Delta:
        """The delta of the newest token, or of text alone."""
        first = not self._text
        self._text.append(text)
        scores = self._scores() if first else None
        if not new_token:
            return Delta(text=text, prompt_logprobs=scores)
        tops = (self._top[-1],) if self.params.logprobs is not None else None
        ids, logprobs = (self._ids[-1],), (self._logprobs[-1],)
        return Delta(text=text, token_ids=ids, logprobs=logprobs, top_logprobs=tops, prompt_logprobs=scores)

    def _scores(self) -> list[PromptLogprob | None] | None:
        return self._prompt_logprobs if self.params.prompt_logprobs is not None else None

    def _finish(self, delta: Delta, reason: FinishReason) -> Delta:
        self.finished = True
        return replace(delta, finish_reason=reason, result=self._result(reason))

    def _result(self, reason: FinishReason) -> GenerationResult:
        return GenerationResult(
            text="".join(self._text),
            token_ids=self._ids,
            logprobs=self._logprobs,
            top_logprobs=self._top if self.params.logprobs is not None else None,
            prompt_logprobs=self._scores(),
            trace=self._trace[: len(self._ids)] if self.params.trace is not None else None,
            finish_reason=reason,
            prompt_token_ids=self._prompt,
            seed=self.sampler.seed,
            timings=Timings(
                prefill_seconds=self._prefill.seconds if self._prefill else 0.0,
                decode_seconds=self._decode.seconds if self._decode else 0.0,
                prompt_tokens=len(self._prompt),
                new_tokens=len(self._ids),
                waiting_seconds=self.waiting_seconds,
                cached_tokens=self.cached_tokens,
                drafted_tokens=self.drafted_tokens,
                accepted_tokens=self.accepted_tokens,
                steps=self._decode.steps if self._decode else 0,
                encode_seconds=self._encode.seconds if self._encode else 0.0,
            ),
            encode_energy=_joules(self._encode),
            prefill_energy=_joules(self._prefill),
            decode_energy=_joules(self._decode),
        )


def _joules(phase: Phase | None) -> Quantity:
    return Quantity.exact(0.0, "counter") if phase is None else phase.energy()
