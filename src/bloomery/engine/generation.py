"""Generation: one request from prompt ids to deltas, in two phases.

Prefill reads the prompt in chunks (bounded memory, and a long prompt can be cancelled) and gives the first token;
decode gives one token a step from the key/value cache. This module does not know prompts as text or chat, nor
which other requests there are.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import nn

from bloomery.core.errors import DeviceError
from bloomery.core.quantity import Quantity
from bloomery.engine.constraint import constraint_for
from bloomery.engine.metering import Bench, Phase
from bloomery.engine.params import SamplingParams
from bloomery.engine.results import Delta, FinishReason, GenerationResult, PromptLogprob, Timings, TokenLogprob
from bloomery.engine.sampling import Sampler, log_probabilities, most_probable
from bloomery.engine.stops import StopStrings
from bloomery.models import KVCache, ModelConfig
from bloomery.tokenizer import StreamDecoder, Tokenizer

PREFILL_CHUNK_TOKENS = 512


class Decoding(Protocol):
    """What a generation asks of a model: logits (B, T, V) of ids that follow those in the cache; see `Decoder`."""

    config: ModelConfig

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def __call__(self, input_ids: torch.Tensor, *, cache: KVCache, last_only: bool = False) -> Any: ...


class Generation:
    """One request. `run()` may be called once; closing its iterator, or setting `cancel`, stops the work."""

    def __init__(
        self,
        decoder: Decoding,
        tokenizer: Tokenizer,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        max_new_tokens: int,
        continues: bool,
        bench: Bench,
        cancel: threading.Event | None = None,
    ) -> None:
        """`continues`: the new text goes on from the prompt's, so a space at its start is kept."""
        self._decoder = decoder
        self._prompt = list(prompt_ids)
        self._params = params
        self._max_new_tokens = max_new_tokens
        self._eos_ids = frozenset(() if params.ignore_eos else tokenizer.eos_ids)
        self._bench = bench
        self._cancel = cancel or threading.Event()
        self._num_words = tokenizer.vocab_size
        spec = params.constraint
        constraint = None if spec is None else constraint_for(spec, tokenizer, continues=continues)
        self._sampler = Sampler(params, constraint)
        self._characters = StreamDecoder(tokenizer, continues=continues)
        self._stops = StopStrings(params.stop)
        self._text: list[str] = []
        self._ids: list[int] = []
        self._logprobs: list[float] = []
        self._top: list[tuple[TokenLogprob, ...]] = []
        self._prompt_logprobs: list[PromptLogprob | None] = [None]

    def run(self) -> Iterator[Delta]:
        """Deltas, one per new token; the last has the finish reason and the result."""
        prefill = Phase(self._bench)
        cache = self._new_cache()
        token = None
        for start in range(0, len(self._prompt), PREFILL_CHUNK_TOKENS):
            if self._cancel.is_set():
                break
            with prefill.step():
                token = self._prefill(cache, start)
        prefill_energy, decode = prefill.energy(), Phase(self._bench)
        delta: Delta | None = None
        reason: FinishReason | None = None
        while token is not None:
            text, reason = self._accept(token)
            delta = self._delta(text)
            if reason is not None:
                break
            yield delta
            if self._cancel.is_set():
                break
            with decode.step():
                token = self._decode(cache, token)
        if delta is None or reason is None:  # no token wanted, or cancelled
            reason = "cancelled" if self._cancel.is_set() else "length"
            delta = self._delta(self._flush(), new_token=False)
        yield replace(delta, finish_reason=reason, result=self._result(reason, prefill, prefill_energy, decode))

    def _new_cache(self) -> KVCache:
        weight = next(self._decoder.parameters())
        length = len(self._prompt) + max(0, self._max_new_tokens - 1)
        try:
            return KVCache(self._decoder.config, 1, length, dtype=weight.dtype, device=weight.device)
        except RuntimeError as error:  # torch has no narrower one for memory on every device
            raise DeviceError(
                f"no memory for the keys and values of {length:,} tokens", hint="ask for fewer new tokens"
            ) from error

    @torch.inference_mode()
    def _prefill(self, cache: KVCache, start: int) -> int | None:
        """Read one chunk of the prompt; after the last one, the first new token (None if none is wanted)."""
        end = min(start + PREFILL_CHUNK_TOKENS, len(self._prompt))
        score = self._params.prompt_logprobs is not None
        logits = self._decoder(self._row(self._prompt[start:end]), cache=cache, last_only=not score)[0]
        if score:
            self._score(log_probabilities(logits), self._prompt[start + 1 : end + 1])
        if end < len(self._prompt) or self._max_new_tokens == 0:
            return None
        return self._choose(logits[-1])

    def _score(self, rows: torch.Tensor, targets: Sequence[int]) -> None:
        """Record the prompt's tokens: rows (t, V) of log-probabilities, row i predicts targets[i]."""
        count = self._params.prompt_logprobs or 0
        for row, target in zip(rows, targets, strict=False):
            top = most_probable(row, count) if count else ()
            self._prompt_logprobs.append(PromptLogprob(token_id=target, logprob=float(row[target]), top=top))

    @torch.inference_mode()
    def _decode(self, cache: KVCache, token: int) -> int:
        return self._choose(self._decoder(self._row([token]), cache=cache, last_only=True)[0, -1])

    def _row(self, ids: Sequence[int]) -> torch.Tensor:
        return torch.tensor([ids], dtype=torch.int64, device=next(self._decoder.parameters()).device)

    def _choose(self, logits: torch.Tensor) -> int:
        """Sample from logits (V,) and record the token with its log-probabilities."""
        logits = logits.detach().to(device="cpu", dtype=torch.float32)
        logprobs = log_probabilities(logits)
        # A vocabulary may be padded for speed: a row that has no token cannot be chosen.
        token = self._sampler.choose(logits[: self._num_words])
        self._ids.append(token)
        self._logprobs.append(float(logprobs[token]))
        if self._params.logprobs is not None:
            self._top.append(most_probable(logprobs, self._params.logprobs) if self._params.logprobs else ())
        return token

    def _accept(self, token: int) -> tuple[str, FinishReason | None]:
        """Text that can be shown now, and why the generation ends here, if it does."""
        if token in self._eos_ids:
            return self._flush(), "stop"
        text = self._stops.push(self._characters.push(token))
        if self._stops.found is not None:
            return text, "stop"
        if self._sampler.finished:
            return text + self._flush(), "stop"
        if len(self._ids) >= self._max_new_tokens:
            text += self._flush()
            return text, "stop" if self._stops.found is not None else "length"
        return text, None

    def _flush(self) -> str:
        text = self._stops.push(self._characters.finish())
        return text + self._stops.finish()

    def _delta(self, text: str, *, new_token: bool = True) -> Delta:
        """The delta of the newest token, or of text alone."""
        first = not self._text
        self._text.append(text)
        delta = Delta(text=text, prompt_logprobs=self._scores() if first else None)
        if not new_token:
            return delta
        tops = (self._top[-1],) if self._params.logprobs is not None else None
        return replace(delta, token_ids=(self._ids[-1],), logprobs=(self._logprobs[-1],), top_logprobs=tops)

    def _scores(self) -> list[PromptLogprob | None] | None:
        return self._prompt_logprobs if self._params.prompt_logprobs is not None else None

    def _result(
        self, reason: FinishReason, prefill: Phase, prefill_energy: Quantity, decode: Phase
    ) -> GenerationResult:
        return GenerationResult(
            text="".join(self._text),
            token_ids=self._ids,
            logprobs=self._logprobs,
            top_logprobs=self._top if self._params.logprobs is not None else None,
            prompt_logprobs=self._scores(),
            finish_reason=reason,
            prompt_token_ids=self._prompt,
            seed=self._sampler.seed,
            timings=Timings(
                prefill_seconds=prefill.seconds,
                decode_seconds=decode.seconds,
                prompt_tokens=len(self._prompt),
                new_tokens=len(self._ids),
            ),
            prefill_energy=prefill_energy,
            decode_energy=decode.energy(),
        )
