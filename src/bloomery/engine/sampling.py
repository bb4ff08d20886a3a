"""Sampling: from one row of logits to one token, the same on every device and in every batch.

Logits are brought to the CPU in float32 and each request draws from its own generator, one number a token, so a
seed gives the same tokens whatever else runs. Temperature, top-k, top-p and min-p are applied in this order and
mean what `transformers` means by them. This module does not know models, text or stopping.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import torch

from bloomery.core.errors import DataError
from bloomery.engine.constraint import Constraint
from bloomery.engine.params import SamplingParams
from bloomery.engine.results import TokenLogprob


@dataclass(frozen=True)
class Candidates:
    """The tokens that the filters keep: `ids` int64 (K,) and `scores` float32 (K,), logits over temperature."""

    ids: torch.Tensor
    scores: torch.Tensor

    def probabilities(self) -> torch.Tensor:
        """float32 (K,), summing to 1."""
        return torch.softmax(self.scores, dim=-1)


def keep(logits: torch.Tensor, params: SamplingParams) -> Candidates:
    """Apply temperature, top-k, top-p and min-p to float32 logits (V,). At least one token is kept."""
    if params.temperature == 0:
        best = logits.argmax().reshape(1)
        return Candidates(best, logits[best])
    scores = logits / params.temperature
    ids = torch.arange(len(scores))
    if params.top_k and params.top_k < len(scores):
        threshold = torch.topk(scores, params.top_k).values[-1]
        ids = torch.nonzero(scores >= threshold).flatten()
        scores = scores[ids]
    if params.top_p is not None and params.top_p < 1.0:
        ordered, order = torch.sort(scores, stable=True)
        dropped = torch.softmax(ordered, dim=-1).cumsum(dim=-1) <= 1.0 - params.top_p
        dropped[-1] = False
        kept = order[~dropped]
        ids, scores = ids[kept], scores[kept]
    if params.min_p:
        probabilities = torch.softmax(scores, dim=-1)
        kept = torch.nonzero(probabilities >= params.min_p * probabilities.max()).flatten()
        ids, scores = ids[kept], scores[kept]
    return Candidates(ids, scores)


class Sampler:
    """Draws the tokens of one request. `seed` is the one in use, drawn if the request gave none."""

    def __init__(self, params: SamplingParams, constraint: Constraint | None = None) -> None:
        self.params = params
        self._constraint = constraint
        self.seed = secrets.randbits(63) if params.seed is None else params.seed
        self._generator = torch.Generator(device="cpu").manual_seed(self.seed)

    @property
    def finished(self) -> bool:
        """A constraint allows nothing more."""
        return self._constraint is not None and self._constraint.finished

    def choose(self, logits: torch.Tensor) -> int:
        """One token id from float32 CPU logits (V,), among those that the constraint allows, if there is one."""
        if self._constraint is None:
            return self._draw(logits)
        mask = self._constraint.allowed()
        token = self._draw(logits[: len(mask)].masked_fill(~mask[: len(logits)], -torch.inf))
        self._constraint.advance(token)
        self._constraint.start()
        return token

    def _draw(self, logits: torch.Tensor) -> int:
        """By inversion of the cumulative distribution."""
        candidates = keep(logits, self.params)
        if len(candidates.ids) == 1:
            return int(candidates.ids[0])
        cumulative = candidates.probabilities().double().cumsum(dim=-1)
        uniform = torch.rand(1, generator=self._generator, dtype=torch.float64)
        place = int(torch.searchsorted(cumulative, uniform * cumulative[-1], right=True))
        # Rounding may put the draw at the very end; a token of probability 0 at the tail must not be taken.
        last = int(torch.searchsorted(cumulative, cumulative[-1:]))
        return int(candidates.ids[min(place, last)])


def log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Natural log-probabilities, float32 on the CPU, of logits (..., V). DataError if the logits are not finite."""
    row = logits.detach().to(device="cpu", dtype=torch.float32)
    result = torch.log_softmax(row, dim=-1)
    if bool(torch.isnan(result).any()):
        raise DataError("the model's output is not a number", hint="the weights are damaged, or overflow in this dtype")
    return result


def most_probable(logprobs: torch.Tensor, count: int) -> tuple[TokenLogprob, ...]:
    """The `count` most probable tokens of log-probabilities (V,), most probable first."""
    top = torch.topk(logprobs, min(count, len(logprobs)))
    return tuple(map(TokenLogprob, top.indices.tolist(), top.values.tolist()))
