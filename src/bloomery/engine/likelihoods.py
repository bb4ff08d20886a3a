"""Likelihoods: how probable a language model in process finds texts (`core.likelihood`).

Each text goes through the engine as a prompt that is scored, in the parts that every scored prompt is read in, so that
the numbers are those that this model's server tells, to the last bit. Texts are taken in the order of their tokens. This
module does not know tasks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bloomery.core.errors import RequestError
from bloomery.core.likelihood import Likelihood, Pair, moved, windows
from bloomery.core.messages import Usage
from bloomery.engine.language_model import LanguageModel
from bloomery.engine.results import GenerationResult


@dataclass(frozen=True)
class _Scored:
    """Ids to read, how many of their last are scored, and of which text they are."""

    ids: list[int]
    count: int
    place: int


class EngineLikelihoods:
    """Meets `LikelihoodModel`. `identity` tells the weights apart where the name does not: an artifact's id, say."""

    def __init__(self, model: LanguageModel, *, identity: str = "") -> None:
        self.model = model
        self._identity = identity
        self._prefix = model.tokenizer.separator_id

    @property
    def name(self) -> str:
        return self._identity or self.model.name

    def likelihoods(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Likelihood]]:
        """See `LikelihoodModel`. RequestError for an empty continuation."""
        asked = [self._scored(pair, place) for place, pair in enumerate(pairs)]
        for one in sorted(asked, key=lambda one: one.ids):  # what begins alike comes one after the other
            yield one.place, self._score(one)

    def rolling(self, texts: Sequence[str]) -> Iterator[tuple[int, Likelihood]]:
        """See `LikelihoodModel`."""
        tokenizer = self.model.tokenizer
        for place, text in enumerate(texts):
            ids = tokenizer.encode(text)
            total = Likelihood(nats=0.0, tokens=0, greedy=True)
            parts = [self._score(_Scored(*part, place)) for part in windows(ids, self._prefix, self._readable)]
            yield place, _together(parts) if parts else total

    @property
    def _readable(self) -> int:
        return min(self.model.context_length, self.model.engine.capacity)

    def _scored(self, pair: Pair, place: int) -> _Scored:
        ids, count = pair_ids(self.model.tokenizer.encode, pair, self._prefix, adds_bos=self.model.tokenizer.adds_bos)
        ids = ids[-(self._readable + 1) :]
        return _Scored(ids, min(count, len(ids) - 1), place)

    def _score(self, one: _Scored) -> Likelihood:
        """The last token need not be read: of a text that is one longer than the context its chance is asked for as a
        new token's."""
        began = time.perf_counter()
        ids, options = one.ids, {"max_new_tokens": 0, "prompt_logprobs": 1}
        last = None
        if len(ids) > self._readable:
            ids, last = ids[:-1], ids[-1]
            options |= {"max_new_tokens": 1, "temperature": 0.0, "logprobs": 1, "logit_bias": {last: 100.0}}
        result = self._run(ids, options)
        scores = result.prompt_logprobs or []
        count = one.count - (last is not None)
        told = [(t.logprob, t.top[0].logprob) for t in (scores[-count:] if count else []) if t is not None]
        if last is not None:
            if result.token_ids[:1] != [last] or result.top_logprobs is None:
                raise RequestError(f"{self.model.name}: token {last} is too improbable to be asked for")
            told.append((result.logprobs[0], result.top_logprobs[0][0].logprob))
        return Likelihood(
            nats=sum(nats for nats, _ in told),
            tokens=len(told),
            greedy=all(nats == best for nats, best in told),
            usage=Usage(prompt_tokens=len(ids), completion_tokens=0, energy_joules=result.energy),
            seconds=time.perf_counter() - began,
        )

    def _run(self, ids: list[int], options: dict[str, Any]) -> GenerationResult:
        request = self.model.request(ids, [options])  # type: ignore[list-item]
        *_, (_, last) = self.model.engine.run(request)
        assert last.result is not None
        return last.result


def pair_ids(
    encode: Callable[..., list[int]], pair: Pair, prefix: int, *, adds_bos: bool = False
) -> tuple[list[int], int]:
    """The ids of a pair, and how many of the last are the continuation's: one at least.

    The whole is encoded, and what the context alone gives is counted off, as lm-evaluation-harness does it. `prefix`
    begins a text that has no context. RequestError for an empty continuation.
    """
    context, continuation = moved(pair)
    if not pair.continuation:
        raise RequestError("an empty continuation has no likelihood", param="continuation")
    if not context:
        rest = encode(continuation)
        ids = rest if rest[:1] == [prefix] else [prefix, *rest]
        return ids, max(1, len(ids) - 1)
    before, whole = encode(context, add_bos=adds_bos), encode(context + continuation, add_bos=adds_bos)
    return whole, min(max(1, len(whole) - len(before)), len(whole))


def _together(parts: Sequence[Likelihood]) -> Likelihood:
    """Windows of one text."""
    first = parts[0]
    for one in parts[1:]:
        usage = Usage(
            prompt_tokens=(first.usage.prompt_tokens or 0) + (one.usage.prompt_tokens or 0),
            completion_tokens=0,
            energy_joules=first.usage.energy_joules + one.usage.energy_joules,
        )
        first = replace(
            first,
            nats=first.nats + one.nats,
            tokens=first.tokens + one.tokens,
            greedy=first.greedy and one.greedy,
            usage=usage,
            seconds=first.seconds + one.seconds,
        )
    return first
