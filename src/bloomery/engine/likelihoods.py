"""Likelihoods: how probable a language model in process finds texts (`core.likelihood`).

One by one each text goes through the engine as a prompt that is scored, in the parts that every scored prompt is read
in, so that the numbers are those that this model's server tells, to the last bit; whole parts that texts begin alike
with are read once. In batches, which a GPU needs, sums are in another order, and the last bits are others. This module
does not know tasks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from bloomery.core.errors import RequestError
from bloomery.core.likelihood import Likelihood, Pair, pair_ids, together, windows
from bloomery.core.messages import Usage
from bloomery.engine.language_model import LanguageModel
from bloomery.engine.results import GenerationResult

_TENANT = "likelihoods"
_BATCH_TOKENS = 16_384
_ROWS = 2048
"""Positions whose logits are made at once."""


@dataclass(frozen=True)
class _Scored:
    """Ids to read, how many of their last are scored, and of which text they are."""

    ids: list[int]
    count: int
    place: int


class EngineLikelihoods:
    """Meets `LikelihoodModel`."""

    def __init__(
        self, model: LanguageModel, *, identity: str = "", bos: bool | None = None, batches: bool | None = None
    ) -> None:
        """`identity` tells the weights apart where the name does not: an artifact's id, say. `bos`: whether contexts
        begin with BOS; None: as the tokenizer has it. `batches`: whether texts are computed together; None: on
        a GPU."""
        self.model = model
        self._batches = model.device.type == "cuda" if batches is None else batches
        self._bos = model.tokenizer.adds_bos if bos is None else bos
        self._identity = identity
        self._prefix = model.tokenizer.separator_id

    @property
    def name(self) -> str:
        return self._identity or self.model.name

    def likelihoods(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Likelihood]]:
        """See `LikelihoodModel`. RequestError for an empty continuation."""
        asked = [self._scored(pair, place) for place, pair in enumerate(pairs)]
        if self._batches:
            yield from self._together(asked)
            return
        for one in sorted(asked, key=lambda one: one.ids):  # what begins alike comes one after the other
            yield one.place, self._score(one)

    def rolling(self, texts: Sequence[str]) -> Iterator[tuple[int, Likelihood]]:
        """See `LikelihoodModel`."""
        tokenizer = self.model.tokenizer
        for place, text in enumerate(texts):
            ids = tokenizer.encode(text)
            parts = [_Scored(*part, place) for part in windows(ids, self._prefix, self._readable)]
            if self._batches:
                yield place, together([found for _, found in self._together(parts)])
            else:
                yield place, together([self._score(part) for part in parts])

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

    def _together(self, asked: Sequence[_Scored]) -> Iterator[tuple[int, Likelihood]]:
        """Longest first, so that what has no room shows at once. Texts that differ in their last token only are read
        as one."""
        read: dict[tuple[int, ...], list[_Scored]] = {}
        for one in asked:
            read.setdefault(tuple(one.ids[:-1]), []).append(one)
        for batch in _batched(sorted(read, key=len, reverse=True)):
            began, phase = time.perf_counter(), self.model.phase()
            wanted = [read[ids] for ids in batch]
            with phase.step():
                found = self._computed(batch, wanted)
            phase.close()
            share = 1 / sum(map(len, wanted))
            usage = Usage(completion_tokens=0, energy_joules=phase.energy().scaled(share))
            seconds = (time.perf_counter() - began) * share
            for one, (nats, greedy) in zip((one for each in wanted for one in each), found, strict=True):
                told = replace(usage, prompt_tokens=len(one.ids))
                yield one.place, Likelihood(nats=nats, tokens=one.count, greedy=greedy, usage=told, seconds=seconds)

    @torch.inference_mode()
    def _computed(
        self, batch: Sequence[tuple[int, ...]], wanted: Sequence[Sequence[_Scored]]
    ) -> list[tuple[float, bool]]:
        """(nats, whether greedy) of every text of a batch: ids (B, T) padded at their ends, which nothing looks at."""
        decoder, device = self.model.decoder, self.model.device
        ids = torch.zeros(len(batch), len(batch[0]), dtype=torch.int64)
        for row, own in enumerate(batch):
            ids[row, : len(own)] = torch.tensor(own)
        places = [
            (row, at - 1, one.ids[at])
            for row, each in enumerate(wanted)
            for one in each
            for at in range(len(one.ids) - one.count, len(one.ids))
        ]
        rows, columns, targets = torch.tensor(places, device=device).T
        with self.model.computing():
            hidden = decoder.hidden_states(ids.to(device))[rows, columns]
        nats, best = [], []
        for start in range(0, len(places), _ROWS):
            part = slice(start, start + _ROWS)
            logprobs = decoder.logits(hidden[part]).float().log_softmax(-1)
            own = logprobs.gather(1, targets[part, None])[:, 0]
            nats += own.tolist()
            best += (own == logprobs.amax(-1)).tolist()
        found, at = [], 0
        for one in (one for each in wanted for one in each):
            part = slice(at, at + one.count)
            found.append((sum(nats[part]), all(best[part])))
            at += one.count
        return found

    def _run(self, ids: list[int], options: dict[str, Any], scores_from: int) -> GenerationResult:
        how = {"tenant": _TENANT, "scores_from": scores_from - 1}  # the first is told where the one before it is read
        request = self.model.request(ids, [options], **how)  # type: ignore[list-item]
        *_, (_, last) = self.model.engine.run(request)
        assert last.result is not None
        return last.result


def _batched(rows: Sequence[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """Rows, the longest first, in batches that are bounded by their tokens, padding included."""
    start = 0
    while start < len(rows):
        count = max(1, _BATCH_TOKENS // max(1, len(rows[start])))
        yield list(rows[start : start + count])
        start += count
