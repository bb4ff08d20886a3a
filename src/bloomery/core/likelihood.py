"""Likelihood: how probable a model finds texts that are given to it, as a protocol beside `core.messages`.

    for place, found in model.likelihoods([Pair("The capital of France is", " Paris")]): ...

Met by the engine in process (`engine.likelihoods`) and by any server whose /v1/completions echoes prompts with
log-probabilities (`core.endpoint_text`). Texts are cut into tokens as lm-evaluation-harness does it, so that numbers
can be compared. This module does not know tokenizers, models or tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from bloomery.core.errors import RequestError
from bloomery.core.messages import Usage


class Pair(NamedTuple):
    """What is given, and what comes after it. The model's start token stands for a context that is empty."""

    context: str
    continuation: str


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """What a model makes of a continuation."""

    nats: float
    """The sum of the natural logarithms of its tokens' probabilities; 0 or less."""
    tokens: int
    """How many tokens of it were scored."""
    greedy: bool
    """Whether each of them is the most probable one at its place."""
    usage: Usage = field(default_factory=Usage)
    """What it took."""
    seconds: float = 0.0
    """Wall-clock; of a batch that was computed together each has an equal share."""
    cached: bool = False
    """Whether it was kept from an earlier time; usage and seconds are those of then."""


class LikelihoodModel(Protocol):
    """Safe to use from several threads."""

    @property
    def name(self) -> str:
        """Under which the numbers' origin is written down: never a secret."""
        ...

    def likelihoods(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Likelihood]]:
        """(place in `pairs`, likelihood) of each, as they come, in any order.

        Texts that are longer than the model's context lose their beginning. RequestError for an empty continuation.
        """
        ...

    def rolling(self, texts: Sequence[str]) -> Iterator[tuple[int, Likelihood]]:
        """(place, likelihood) of whole texts, from their first token on: long ones in windows of the model's context
        that do not overlap but for the token that the first prediction of a window is made from."""
        ...


def moved(pair: Pair) -> Pair:
    """The pair with white space at the context's end as the continuation's beginning, where tokens have it."""
    bare = pair.context.rstrip()
    return Pair(bare, pair.context[len(bare) :] + pair.continuation)


def windows(ids: Sequence[int], prefix: int, length: int) -> Iterator[tuple[list[int], int]]:
    """(ids to read, how many of their last are scored): every id of `ids` is scored once, the first after `prefix`.

    A window reads `length` ids at most and predicts as many; each but the first begins with the last id of the one
    before; the last one is filled up with earlier ids to its full length, which it does not score again.
    """
    whole = [prefix, *ids]
    at = 1
    while at < len(whole):
        end = min(at + length, len(whole))
        start = at - 1 if end < len(whole) or at == 1 else max(0, end - length - 1)
        yield whole[start:end], end - at
        at = end


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


def together(parts: Sequence[Likelihood]) -> Likelihood:
    """Windows of one text as one; nothing is as probable as it can be."""
    if not parts:
        return Likelihood(nats=0.0, tokens=0, greedy=True)
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
