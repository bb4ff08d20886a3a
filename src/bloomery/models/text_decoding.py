"""Text decoding: greedy and beam search over any model that writes one token a step.

Beams as in Wu et al., arXiv 1609.08144, with a plain power of the length. Shapes: B texts, K beams, S source length, V
vocabulary. This module does not know nets: a recurrent one and a transformer both meet `Stepping`. Sampling is the
engine's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from bloomery.core.errors import RequestError


class State(Protocol):
    """All that a step depends on, one row a text."""

    def select(self, rows: Tensor) -> Self:
        """These rows, which may repeat. The state itself stays as it is."""
        ...


S = TypeVar("S", bound=State)
MAX_LENGTH_PENALTY = 10.0
"""Of either sign: two thousand tokens to the power of a hundred are no number any more, and one over it is zero."""


class Stepping(Protocol[S]):
    """A model that can be asked for the next token."""

    def step(self, state: S, token_ids: Tensor) -> tuple[Tensor, S, Tensor | None]:
        """The last token of each text (B,) -> logits (B, V), the state after it, and the weights over the source
        (B, S) if the model has such. `state` stays as it is."""
        ...


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """One text. `token_ids` without the end token; `logprob` in nats, the end token's included; `score` is what beams
    are ranked by; `ended`: with an end token, not by the limit; `weights` (tokens, S) over the source, if asked for."""

    token_ids: list[int]
    logprob: float
    score: float
    ended: bool
    weights: Tensor | None = None


@dataclass(frozen=True)
class _Found:
    """A text that is done: `steps` tokens that lead to `beam` of the history."""

    score: float
    logprob: float
    steps: int
    beam: int
    ended: bool


class _Best:
    """The best texts of one row so far."""

    def __init__(self, limit: int) -> None:
        self.kept: list[_Found] = []
        self.done = False
        self._limit = limit

    def add(self, found: _Found) -> None:
        if not self.done:
            self.kept = sorted([*self.kept, found], key=lambda one: -one.score)[: self._limit]

    def closed(self, best_live: float, norm: float) -> bool:
        """Whether no live beam could enter by ending now; once true, for ever."""
        full = len(self.kept) == self._limit and best_live / norm <= self.kept[-1].score
        self.done = self.done or full or best_live == -math.inf
        return self.done


class _History:
    """Which token each beam took at each step, which beam it came from, and the weights that it saw."""

    def __init__(self) -> None:
        self._parents: list[list[int]] = []
        self._tokens: list[list[int]] = []
        self._weights: list[Tensor | None] = []

    def add(self, parents: Tensor, tokens: Tensor, weights: Tensor | None) -> None:
        self._parents.append(parents.tolist())
        self._tokens.append(tokens.tolist())
        self._weights.append(weights)

    def text(self, found: _Found) -> Hypothesis:
        """Walk back from the beam in which a text ends."""
        beam, ids, weights = found.beam, [], []
        for step in reversed(range(found.steps)):
            ids.append(self._tokens[step][beam])
            beam = self._parents[step][beam]
            seen = self._weights[step]
            if seen is not None:
                weights.append(seen[beam])
        return Hypothesis(
            token_ids=ids[::-1],
            logprob=found.logprob,
            score=found.score,
            ended=found.ended,
            weights=torch.stack(weights[::-1]) if weights else None,
        )


def check_length_penalty(value: object) -> None:
    """RequestError for what is no number from -10 to 10."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= MAX_LENGTH_PENALTY:
        message = f"length_penalty should be a number from -{MAX_LENGTH_PENALTY:g} to {MAX_LENGTH_PENALTY:g}"
        raise RequestError(f"{message}, not {value!r:.40}", param="length_penalty")


def _check(first: Tensor, max_new_tokens: int, length_penalty: float) -> None:
    if first.ndim != 1 or not len(first):
        raise RequestError(f"first tokens should be (B,), not {tuple(first.shape)}", param="first")
    if max_new_tokens < 1:
        raise RequestError("max_new_tokens should be at least 1", param="max_new_tokens")
    check_length_penalty(length_penalty)


def _listed(ids: int | Sequence[int]) -> list[int]:
    return [ids] if isinstance(ids, int) else list(ids)


@torch.inference_mode()
def greedy(
    model: Stepping[S],
    state: S,
    first: Tensor,
    *,
    eos_token_id: int | Sequence[int],
    max_new_tokens: int,
    length_penalty: float = 1.0,
    attention: bool = False,
) -> list[Hypothesis]:
    """The most probable token at each step, for each text until its end token. Arguments as `beam_search`'s."""
    _check(first, max_new_tokens, length_penalty)
    ends_text, history = set(_listed(eos_token_id)), _History()
    rows = torch.arange(first.size(0), device=first.device)
    tokens, total = first, torch.zeros(first.size(0), device=first.device)
    ends: dict[int, tuple[int, float]] = {}
    for length in range(1, max_new_tokens + 1):
        logits, state, weights = model.step(state, tokens)
        best, tokens = logits.float().log_softmax(dim=-1).max(dim=-1)
        total = total + best
        for row, token in enumerate(tokens.tolist()):
            if token in ends_text and row not in ends:
                ends[row] = (length, float(total[row]))
        if len(ends) == first.size(0):
            break
        history.add(rows, tokens, weights if attention else None)
    texts = []
    for row in range(first.size(0)):
        length, logprob = ends.get(row, (max_new_tokens, float(total[row])))
        found = _Found(logprob / length**length_penalty, logprob, length - (row in ends), row, row in ends)
        texts.append(history.text(found))
    return texts


@torch.inference_mode()
def beam_search(
    model: Stepping[S],
    state: S,
    first: Tensor,
    *,
    eos_token_id: int | Sequence[int],
    max_new_tokens: int,
    num_beams: int = 4,
    length_penalty: float = 1.0,
    attention: bool = False,
) -> list[list[Hypothesis]]:
    """For each text up to `num_beams` hypotheses, the best first. One beam is greedy search.

    `state` is the model's before the first token of B texts, `first` (B,) what they begin with. A score is the log
    probability divided by length ** `length_penalty`, the end token counted: 0 prefers short texts, above 1 long ones.
    A text is done when none of its beams could enter the best `num_beams` by ending now, as transformers does it.
    `eos_token_id` may be several, any of which ends a text. Raises RequestError for limits below one, and a
    `length_penalty` that is not from -10 to 10.
    """
    _check(first, max_new_tokens, length_penalty)
    if num_beams < 1:
        raise RequestError("num_beams should be at least 1", param="num_beams")
    rows, device = first.size(0), first.device
    ends_text = torch.tensor(_listed(eos_token_id), dtype=torch.int64, device=device)
    offsets = torch.arange(rows, device=device)[:, None] * num_beams
    state = state.select(torch.arange(rows, device=device).repeat_interleave(num_beams))
    tokens = first.repeat_interleave(num_beams)
    # At first all beams of a text are the same: only one of them counts.
    live = torch.full((rows, num_beams), -torch.inf, device=device)
    live[:, 0] = 0.0
    history, found = _History(), [_Best(num_beams) for _ in range(rows)]
    for length in range(1, max_new_tokens + 1):
        logits, state, weights = model.step(state, tokens)
        logprobs = logits.float().log_softmax(dim=-1).unflatten(0, (rows, num_beams))
        # Twice as many as beams: at most half of them end, so that as many as there are beams go on.
        totals, places = (live[:, :, None] + logprobs).flatten(1).topk(min(2 * num_beams, num_beams * logits.size(-1)))
        beams, candidates = places // logits.size(-1), places % logits.size(-1)
        ending = torch.isin(candidates, ends_text)
        norm = length**length_penalty
        for row, place in ending[:, :num_beams].nonzero().tolist():
            total, beam = float(totals[row, place]), row * num_beams + int(beams[row, place])
            if total > -math.inf:
                found[row].add(_Found(total / norm, total, length - 1, beam, True))
        kept = ending.int().sort(dim=1, stable=True).indices[:, :num_beams]
        live = totals.masked_fill(ending, -torch.inf).gather(1, kept)
        tokens, parents = candidates.gather(1, kept).flatten(), (beams.gather(1, kept) + offsets).flatten()
        history.add(parents, tokens, weights if attention else None)
        state = state.select(parents)
        running = [best for best, top in zip(found, live[:, 0].tolist(), strict=True) if not best.closed(top, norm)]
        if not running:
            break
    else:
        for row, beam in live.isfinite().nonzero().tolist():
            total, start = float(live[row, beam]), row * num_beams + beam
            score = total / max_new_tokens**length_penalty
            found[row].add(_Found(score, total, max_new_tokens, start, False))
    return [[history.text(one) for one in best.kept] for best in found]
