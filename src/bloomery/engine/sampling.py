"""Sampling: from rows of logits to tokens, the same on every device and in every batch.

Logits are brought to the CPU in float32 and each request draws from its own generator, one number a token, so a
seed gives the same tokens whatever else runs. Bias and penalties come first, then temperature, top-k, top-p, min-p and
typical-p, in this order; they mean what `transformers` means by them. This module does not know models, text or
stopping.
"""

from __future__ import annotations

import ctypes
import math
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bloomery.core.errors import DataError
from bloomery.engine.constraint import Constraint, constraint_for
from bloomery.engine.params import SamplingParams
from bloomery.engine.results import TokenLogprob, TracedCandidate
from bloomery.tokenizer import Tokenizer

_COLDEST = 1e-30  # below, a temperature is zero in float32
_LIKELY = 1024  # with top-p, so many tokens nearly always hold the mass that is asked for


@dataclass(frozen=True)
class Candidates:
    """The tokens that the filters keep: `ids` int64 (K,) and `scores` float32 (K,), logits over temperature."""

    ids: Tensor
    scores: Tensor

    def probabilities(self) -> Tensor:
        """float32 (K,), summing to 1."""
        return torch.softmax(self.scores, dim=-1)

    def at(self, uniform: Tensor) -> int:
        """The token at a place (1,) from 0 to 1, float64, of the cumulative distribution."""
        if len(self.ids) == 1:
            return int(self.ids[0])
        cumulative = self.probabilities().double().cumsum(dim=-1)
        place = int(torch.searchsorted(cumulative, uniform * cumulative[-1], right=True))
        # Rounding may put the draw at the very end; a token of probability 0 at the tail must not be taken.
        last = int(torch.searchsorted(cumulative, cumulative[-1:]))
        return int(self.ids[min(place, last)])

    def only(self, kept: Tensor) -> Candidates:
        return Candidates(self.ids[kept], self.scores[kept])


def keep(logits: Tensor, params: SamplingParams) -> Candidates:
    """Apply temperature, top-k, top-p, min-p and typical-p to float32 logits (V,). At least one token is kept."""
    if params.temperature == 0:
        best = logits.argmax().reshape(1)
        return Candidates(best, logits[best])
    scores = logits / max(params.temperature, _COLDEST)
    if not bool(torch.isfinite(scores.max())):  # so cold that logits overflow: their differences do not matter less
        scores = (logits - logits.max()) / max(params.temperature, _COLDEST)
    found = Candidates(torch.arange(len(scores)), scores)
    if params.top_k and params.top_k < len(scores):
        threshold = torch.topk(scores, params.top_k).values[-1]
        found = found.only(torch.nonzero(scores >= threshold).flatten())
    if params.top_p is not None and params.top_p < 1.0:
        found = _top_p(found, params.top_p)
    if params.min_p:
        probabilities = found.probabilities()
        found = found.only(torch.nonzero(probabilities >= params.min_p * probabilities.max()).flatten())
    if params.typical_p is not None and params.typical_p < 1.0:
        found = _typical(found, params.typical_p)
    return found


def _top_p(found: Candidates, top_p: float) -> Candidates:
    """The smallest set of most probable tokens whose probabilities reach the sum."""
    rest = 0.0  # of the probability, with tokens that cannot be in the set: sorting them all would take longest
    if len(found.ids) > 4 * _LIKELY:
        whole = torch.logsumexp(found.scores, dim=-1)
        values, places = torch.topk(found.scores, _LIKELY)
        held = float((values - whole).exp().sum())
        if held > top_p + 1e-3:
            found, rest = found.only(places.sort().values), 1.0 - held
    ordered, order = torch.sort(found.scores, stable=True)
    dropped = rest + (1.0 - rest) * torch.softmax(ordered, dim=-1).cumsum(dim=-1) <= 1.0 - top_p
    dropped[-1] = False
    return found.only(order[~dropped])


def _typical(found: Candidates, mass: float) -> Candidates:
    """Tokens whose surprise is nearest to the entropy, until they hold the mass (Meister et al., arXiv 2202.00666)."""
    logprobs = torch.log_softmax(found.scores, dim=-1)
    entropy = -(logprobs * logprobs.exp()).nansum()
    distance = (-logprobs - entropy).abs()
    ordered, order = torch.sort(distance, stable=True)
    last = int((logprobs[order].exp().cumsum(dim=-1) < mass).sum())
    return found.only(torch.nonzero(distance <= ordered[min(last, len(ordered) - 1)]).flatten())


class Sampler:
    """Draws the tokens of one request. `seed` is the one in use, drawn if the request gave none."""

    def __init__(
        self, params: SamplingParams, prompt: Sequence[int] = (), constraint: Constraint | None = None
    ) -> None:
        self.params = params
        self._constraint = constraint
        self.seed = secrets.randbits(63) if params.seed is None else params.seed
        self._generator = torch.Generator(device="cpu").manual_seed(self.seed)
        self._bias = sorted(params.logit_bias.items())
        self._seen = dict.fromkeys(prompt) if params.repetition_penalty != 1.0 else {}
        self._counts: Counter[int] = Counter()

    @property
    def _changes(self) -> bool:
        p = self.params
        return bool(self._bias or p.repetition_penalty != 1.0 or p.presence_penalty or p.frequency_penalty)

    @property
    def finished(self) -> bool:
        """A constraint allows nothing more."""
        return self._constraint is not None and self._constraint.finished

    def choose(self, logits: Tensor, best: int | None = None) -> int:
        """One token id from float32 CPU logits (V,), among those that the constraint allows, if there is one. `best` is
        where the largest is, if somebody knows it."""
        if best is not None and self._constraint is None and not self.params.temperature and not self._changes:
            return self._took(best)
        candidates = self.candidates(logits)
        if len(candidates.ids) == 1:
            return self._took(int(candidates.ids[0]))
        return self._took(candidates.at(torch.rand(1, generator=self._generator, dtype=torch.float64)))

    def preview(self, count: int) -> Callable[[int, Tensor], int]:
        """What would be chosen with the random numbers of the next `count` draws, which are not used up: a function of
        which draw and of float32 CPU logits (V,), another model's for example."""
        state = self._generator.get_state()
        uniforms = torch.rand(count, generator=self._generator, dtype=torch.float64)
        self._generator.set_state(state)
        # A constraint knows only what may come next, not after it: here it counts for nothing.
        return lambda place, logits: keep(self._changed(logits), self.params).at(uniforms[place : place + 1])

    def candidates(self, logits: Tensor) -> Candidates:
        """What may be chosen next, after constraint, bias, penalties and filters, from float32 CPU logits (V,)."""
        if self._constraint is not None:
            mask = self._constraint.allowed()
            logits = logits[: len(mask)].masked_fill(~mask[: len(logits)], -torch.inf)
        return keep(self._changed(logits) if self._changes else logits, self.params)

    def trace(self, logits: Tensor, logprobs: Tensor) -> tuple[TracedCandidate, ...]:
        """The likeliest tokens of float32 CPU logits (V,), before and after what is done to them. To be asked before
        `choose`: penalties count the tokens that were chosen."""
        kept, count = self.candidates(logits), min(self.params.trace or 0, len(logits))
        after = torch.full_like(logits, -torch.inf)
        after[kept.ids] = torch.log_softmax(kept.scores, dim=-1)
        best = torch.topk(logprobs[: len(logits)], count).indices
        drawn = torch.topk(after, min(count, len(kept.ids))).indices
        ids = list(dict.fromkeys([*best.tolist(), *drawn.tolist()]))
        found = [(i, float(logprobs[i]), float(after[i])) for i in ids]
        return tuple(TracedCandidate(i, before, None if then == -torch.inf else then) for i, before, then in found)

    def _took(self, token: int) -> int:
        self._counts[token] += 1
        if self._constraint is not None:
            self._constraint.advance(token)
            self._constraint.start()  # what may follow is worked out while the model computes
        return token

    def _changed(self, logits: Tensor) -> Tensor:
        """Logits with bias and penalties. Repetition counts the prompt too (Keskar et al., arXiv 1909.05858);
        presence and frequency count new tokens only, as OpenAI's do."""
        logits, p = logits.clone(), self.params
        for token, bias in self._bias:
            if token < len(logits):
                logits[token] += bias
        if p.repetition_penalty != 1.0:
            ids = torch.tensor([i for i in {**self._seen, **self._counts} if i < len(logits)], dtype=torch.int64)
            found = logits[ids]
            logits[ids] = torch.where(found < 0, found * p.repetition_penalty, found / p.repetition_penalty)
        if self._counts and (p.presence_penalty or p.frequency_penalty):
            ids = torch.tensor(list(self._counts), dtype=torch.int64)
            counts = torch.tensor(list(self._counts.values()), dtype=torch.float32)
            logits[ids] -= p.presence_penalty + p.frequency_penalty * counts
        return logits


def sampler_for(params: SamplingParams, prompt: Sequence[int], tokenizer: Tokenizer, *, continues: bool) -> Sampler:
    """A sampler with the constraint that the parameters name, if any; `continues` as in `constraint_for`."""
    spec = params.constraint
    return Sampler(params, prompt, None if spec is None else constraint_for(spec, tokenizer, continues=continues))


class Known(NamedTuple):
    """Of a row of logits: the logarithm of the sum of their exponentials, and where the largest is."""

    log_of_sum: float
    best: int


class LogProbabilities:
    """Natural log-probabilities of one row of logits (V,), float32 on the CPU. All of them are computed when somebody
    asks for more than one token's, or nothing is `known` of the row."""

    def __init__(self, logits: Tensor, known: Known | None = None) -> None:
        self._logits, self.known = logits, known
        self._all: Tensor | None = None

    @classmethod
    def of_all(cls, logprobs: Tensor) -> LogProbabilities:
        """Where all of them (V,) are there: their exponentials sum to 1."""
        return cls(logprobs, Known(0.0, int(logprobs.argmax())))

    @property
    def are_numbers(self) -> bool:
        """One logit that is no number makes all log-probabilities of its row none."""
        return not math.isnan(self.known.log_of_sum if self.known else float(self.all()[0]))

    def all(self) -> Tensor:
        """float32 (V,)."""
        if self._all is None:
            if self.known is None:
                self._all = torch.log_softmax(self._logits, dim=-1)
            else:  # large logits leave no digits of a float for the difference
                self._all = (self._logits.double() - self.known.log_of_sum).float()
        return self._all

    def of(self, token: int) -> float:
        """Of one token, as `all` has it."""
        if self.known is None:
            return float(self.all()[token])
        return ctypes.c_float(float(self._logits[token]) - self.known.log_of_sum).value


def log_probabilities(logits: Tensor) -> Tensor:
    """Natural log-probabilities, float32 on the CPU, of logits (..., V). DataError if the logits are not finite."""
    row = logits.detach().to(device="cpu", dtype=torch.float32)
    result = torch.log_softmax(row, dim=-1)
    if bool(torch.isnan(result).any()):
        raise DataError("the model's output is not a number", hint="the weights are damaged, or overflow in this dtype")
    return result


def most_probable(logprobs: Tensor, count: int) -> tuple[TokenLogprob, ...]:
    """The `count` most probable tokens of log-probabilities (V,), most probable first."""
    top = torch.topk(logprobs, min(count, len(logprobs)))
    return tuple(map(TokenLogprob, top.indices.tolist(), top.values.tolist()))
