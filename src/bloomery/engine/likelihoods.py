"""Likelihoods: how probable a language model in process finds texts (`core.likelihood`).

Each text goes through the engine as a prompt that is scored, in the parts that every scored prompt is read in, so that
the numbers are those that this model's server tells, to the last bit. Whole parts that texts begin alike with are read
once. This module does not know tasks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bloomery.core.errors import RequestError
from bloomery.core.likelihood import Likelihood, Pair, pair_ids, together, windows
from bloomery.core.messages import Usage
from bloomery.engine.language_model import LanguageModel
from bloomery.engine.results import GenerationResult

_TENANT = "likelihoods"


@dataclass(frozen=True)
class _Scored:
    """Ids to read, how many of their last are scored, and of which text they are."""

    ids: list[int]
    count: int
    place: int


class EngineLikelihoods:
    """Meets `LikelihoodModel`."""

    def __init__(self, model: LanguageModel, *, identity: str = "", bos: bool | None = None) -> None:
        """`identity` tells the weights apart where the name does not: an artifact's id, say. `bos`: whether contexts
        begin with BOS; None: as the tokenizer has it."""
        self.model = model
        self._bos = model.tokenizer.adds_bos if bos is None else bos
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
            parts = [self._score(_Scored(*part, place)) for part in windows(ids, self._prefix, self._readable)]
            yield place, together(parts)

    @property
    def _readable(self) -> int:
        return min(self.model.context_length, self.model.engine.capacity)

    def _scored(self, pair: Pair, place: int) -> _Scored:
        ids, count = pair_ids(self.model.tokenizer.encode, pair, self._prefix, adds_bos=self._bos)
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
        result = self._run(ids, options, len(one.ids) - one.count)
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

    def _run(self, ids: list[int], options: dict[str, Any], scores_from: int) -> GenerationResult:
        how = {"tenant": _TENANT, "scores_from": scores_from - 1}  # the first is told where the one before it is read
        request = self.model.request(ids, [options], **how)  # type: ignore[list-item]
        *_, (_, last) = self.model.engine.run(request)
        assert last.result is not None
        return last.result
