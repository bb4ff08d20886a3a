"""Plain sampling: what `sampling` does of most requests, on numpy's arrays, for a process without PyTorch.

Temperature, top-k, top-p and min-p, in this order; other requests are not `supported`. The generator is PyTorch's
(mt19937, 53 bits a number), so a seed gives the tokens that `sampling.Sampler` draws, but where a draw falls within a
rounding of the bound between two. This module does not know models or text.
"""

from __future__ import annotations

import secrets

import numpy as np

from bloomery.engine.params import SamplingParams

_COLDEST = 1e-30  # below, a temperature is zero in float32
_DIGITS = 53
_LIKELY = 1024  # with top-p, so many tokens nearly always hold the mass that is asked for


def supported(params: SamplingParams) -> bool:
    """Whether a request asks for nothing that only `sampling` does, nor for more than text."""
    kept = SamplingParams(
        max_new_tokens=params.max_new_tokens,
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        seed=params.seed,
        stop=params.stop,
        ignore_eos=params.ignore_eos,
    )
    return params == kept


class PlainSampler:
    """Draws the tokens of one request. `seed` is the one in use, drawn if the request gave none."""

    finished = False

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        self.seed = secrets.randbits(63) if params.seed is None else params.seed
        self._generator = np.random.MT19937()
        self._generator._legacy_seeding(self.seed % 2**32)  # type: ignore[attr-defined]

    def choose(self, logits: np.ndarray, best: int) -> int:
        """A token of float32 logits (V,), of which the largest is at `best`, or is not known if that is beyond them."""
        if self._params.temperature == 0:
            return best if best < len(logits) else int(logits.argmax())
        ids, scores = keep(logits, self._params)
        if len(ids) == 1:
            return int(ids[0])
        cumulative = _softmax(scores).astype(np.float64).cumsum()
        place = int(np.searchsorted(cumulative, self._uniform() * cumulative[-1], side="right"))
        # Rounding may put the draw at the very end; a token of probability 0 at the tail must not be taken.
        last = int(np.searchsorted(cumulative, cumulative[-1]))
        return int(ids[min(place, last)])

    def _uniform(self) -> float:
        high, low = (int(one) for one in self._generator.random_raw(2))
        return ((high << 32 | low) & ((1 << _DIGITS) - 1)) * 2.0**-_DIGITS


def keep(logits: np.ndarray, params: SamplingParams) -> tuple[np.ndarray, np.ndarray]:
    """The tokens that the filters keep, int64 (K,), and their scores, float32 (K,): logits over temperature."""
    scores = _over(logits, params.temperature)
    ids = np.arange(len(scores))
    if params.top_k and params.top_k < len(scores):
        ids = np.flatnonzero(scores >= np.partition(scores, -params.top_k)[-params.top_k])
    if params.top_p is not None and params.top_p < 1.0:
        ids = _top_p(ids, scores[ids], params.top_p)
    if params.min_p:
        probabilities = _softmax(scores[ids])
        ids = ids[probabilities >= params.min_p * probabilities.max()]
    return ids, scores[ids]


def _top_p(ids: np.ndarray, scores: np.ndarray, top_p: float) -> np.ndarray:
    """Of ids (K,), the smallest set of most probable tokens whose probabilities reach the sum."""
    rest = 0.0  # of the probability, with tokens that cannot be in the set: sorting them all would take longest
    if len(ids) > 4 * _LIKELY:
        largest = scores.max()
        whole = largest + np.log(np.exp(scores - largest).sum())
        places = np.sort(np.argpartition(scores, -_LIKELY)[-_LIKELY:])
        held = float(np.exp(scores[places] - whole).sum())
        if held > top_p + 1e-3:
            ids, scores, rest = ids[places], scores[places], 1.0 - held
    order = np.argsort(scores, kind="stable")
    below = _softmax(scores[order]).cumsum(dtype=np.float64).astype(np.float32)  # as PyTorch sums
    dropped = rest + (1.0 - rest) * below <= 1.0 - top_p
    dropped[-1] = False
    return ids[order[~dropped]]


def _over(logits: np.ndarray, temperature: float) -> np.ndarray:
    divisor = np.float32(max(temperature, _COLDEST))
    with np.errstate(over="ignore", invalid="ignore"):
        scores = logits / divisor
        if not np.isfinite(scores.max()):  # so cold that logits overflow: their differences do not matter less
            scores = (logits - logits.max()) / divisor
    return scores


def _softmax(scores: np.ndarray) -> np.ndarray:
    """float32, summing to 1."""
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()
