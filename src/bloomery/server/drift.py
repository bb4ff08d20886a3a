"""DriftWatch: whether what people ask, and what they are answered, is still what it was.

For each model and kind a reference window is filled first (the first `window` values), then a rolling window of the
newest as many. They are compared each quarter of a window:

    prompt_length, answer_length    tokens; the population stability index over the reference's deciles, and the
                                    two-sample Kolmogorov-Smirnov statistic
    prompt_script, answer_script    the writing system of most letters, a simple stand-in for language (a chat
                                    template's own words count too): PSI of their shares
    prompt_embedding,               what texts are about: the energy distance of mean embeddings, as a share of the
    answer_embedding                largest it could be, and how often chance gives as much (see `embedding_drift`)
    refusal                         answers that begin like a refusal in English: difference of the two shares

An alert is raised where the difference is large (PSI above 0.25, the usual rule of credit scoring: Siddiqi 2006; KS
above a half, or an energy coefficient above a twentieth) and cannot be chance: for lengths KS beyond its critical
value, for shares a z-test of two proportions, for embeddings a permutation test, each at one in a thousand. Texts are
looked at and forgotten; numbers are kept in memory only. This module does not know metrics.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import unicodedata
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from bloomery.server.embedding_drift import energy_test
from bloomery.server.record import Record

log = logging.getLogger("bloomery.server")
LENGTHS = ("prompt_length", "answer_length")
SCRIPTS = ("prompt_script", "answer_script")
EMBEDDINGS = ("prompt_embedding", "answer_embedding")
REFUSAL = "refusal"
MAX_PSI, MAX_KS, MAX_ENERGY = 0.25, 0.5, 0.05
_ALPHA = 0.001
_Z = 3.2905  # of the normal distribution, two-sided at _ALPHA
_FLOOR = 1e-4
_SAMPLED_CHARACTERS = 2_000
_REFUSES = re.compile(
    r"\s*(?:i['’]?m (?:very |so )?sorry|i am sorry|sorry,|i apologi[sz]e|i (?:can['’]?t|can ?not|am unable|won['’]t)"
    r"|i['’]m (?:unable|not able)|unfortunately,? i|as an ai\b)",
    re.IGNORECASE,
)


def psi(expected: Sequence[float], actual: Sequence[float]) -> float:
    """The population stability index of two histograms over the same bins: sum of (a - e) ln(a / e) of their shares.
    Empty bins count as one in ten thousand."""
    total = 0.0
    for e, a in zip(_shares(expected), _shares(actual), strict=True):
        total += (a - e) * math.log(a / e)
    return total


def ks(first: Sequence[float], second: Sequence[float]) -> float:
    """The two-sample Kolmogorov-Smirnov statistic: the largest distance of the two distribution functions."""
    a, b = sorted(first), sorted(second)
    return max(abs(bisect_right(a, x) / len(a) - bisect_right(b, x) / len(b)) for x in {*a, *b})


def ks_critical(n: int, m: int, alpha: float = _ALPHA) -> float:
    """The statistic that chance exceeds with probability `alpha` (asymptotic: Smirnov 1948)."""
    return math.sqrt(-math.log(alpha / 2) / 2 * (n + m) / (n * m))


def two_proportions(first: int, n: int, second: int, m: int) -> float:
    """z of the difference of two shares, `first` of `n` and `second` of `m`, with pooled variance; 0 if both are all
    or nothing."""
    pooled = (first + second) / (n + m)
    variance = pooled * (1 - pooled) * (1 / n + 1 / m)
    return (second / m - first / n) / math.sqrt(variance) if variance > 0 else 0.0


def deciles(values: Sequence[float]) -> list[float]:
    """The inner edges of ten bins that hold about as many values each; fewer where values repeat."""
    ordered = sorted(values)
    return sorted({ordered[len(ordered) * k // 10] for k in range(1, 10)})


def histogram(values: Sequence[float], edges: Sequence[float]) -> list[int]:
    """How many values lie in each bin: below the first edge, from one edge to the next, from the last edge up."""
    counts = [0] * (len(edges) + 1)
    for value in values:
        counts[bisect_right(edges, value)] += 1
    return counts


def script_of(text: str) -> str:
    """The writing system of most letters ("latin", "cyrillic", "cjk", ...), of the first 2,000 characters; "none"."""
    found = Counter(map(_script, filter(str.isalpha, text[:_SAMPLED_CHARACTERS])))
    return found.most_common(1)[0][0] if found else "none"


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    # Names of letters begin with their script: LATIN SMALL LETTER A.
    return unicodedata.name(letter, "other").partition(" ")[0].lower()


def is_refusal(text: str) -> bool:
    """Whether an answer begins like a refusal in English."""
    return _REFUSES.match(text) is not None


def _shares(counts: Sequence[float]) -> list[float]:
    total = sum(counts)
    return [max(count / total, _FLOOR) for count in counts]


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How far the newest window of one kind is from the reference. `distance` by the name of the statistic."""

    distance: Mapping[str, float] = field(default_factory=dict)
    alert: bool = False


def compare(kind: str, reference: Sequence, newest: Sequence) -> Drift:
    """One kind's values in two windows that are not empty."""
    n, m = len(reference), len(newest)
    if kind in LENGTHS:
        edges = deciles(reference)
        far = {"psi": psi(histogram(reference, edges), histogram(newest, edges)), "ks": ks(reference, newest)}
        # Where the reference is all one length, its bins do not part it from what is longer: KS does.
        large = far["psi"] > MAX_PSI or far["ks"] > MAX_KS
        return Drift(distance=far, alert=large and far["ks"] > ks_critical(n, m))
    if kind in EMBEDDINGS:
        coefficient, chance = energy_test(reference, newest)
        far = {"energy": coefficient, "p": chance}
        return Drift(distance=far, alert=coefficient > MAX_ENERGY and chance < _ALPHA)
    if kind == REFUSAL:
        first, second = sum(reference), sum(newest)
        far = {"difference": second / m - first / n}
        return Drift(distance=far, alert=abs(two_proportions(first, n, second, m)) > _Z)
    before, after = Counter(reference), Counter(newest)
    names: list[Hashable] = sorted({*before, *after}, key=str)
    far = {"psi": psi([before[name] for name in names], [after[name] for name in names])}
    # Of several shares the largest change counts: the threshold is divided by their number (Bonferroni).
    z = max(abs(two_proportions(before[name], n, after[name], m)) for name in names)
    chance = math.erfc(z / math.sqrt(2)) * len(names)
    return Drift(distance=far, alert=far["psi"] > MAX_PSI and chance < _ALPHA)


class _Window:
    def __init__(self, size: int) -> None:
        self.reference: list = []
        self.newest: deque = deque(maxlen=size)
        self.size = size
        self.since = 0
        self.drift = Drift()

    def add(self, value: Any) -> bool:
        """True when it is time to compare."""
        if len(self.reference) < self.size:
            self.reference.append(value)
            return False
        self.newest.append(value)
        self.since += 1
        if len(self.newest) < self.size or self.since < max(1, self.size // 4):
            return False
        self.since = 0
        return True


class DriftWatch:
    """Thread-safe. `add` takes requests that are over; `now` is what was found last."""

    def __init__(self, window: int) -> None:
        """`window` is how many values each of the two windows holds."""
        self._size = window
        self._windows: dict[tuple[str, str], _Window] = {}
        self._lock = threading.Lock()

    def add(self, record: Record) -> None:
        """A request that failed or was cut off says nothing of what people ask."""
        if record.status != 200 or not record.answers:
            return
        values: list[tuple[str, Any]] = []
        for answer in record.answers:
            values += [
                ("answer_length", answer.completion_tokens),
                ("answer_script", script_of(answer.text)),
                (REFUSAL, is_refusal(answer.text)),
                ("answer_embedding", record.embed(answer.token_ids)),
            ]
        for ids in record.prompt_ids:
            text = record.decode(ids[:_SAMPLED_CHARACTERS], False)
            values += [("prompt_length", len(ids)), ("prompt_script", script_of(text))]
            values.append(("prompt_embedding", record.embed(ids)))
        with self._lock:
            for kind, value in values:
                if value is None:
                    continue
                window = self._windows.setdefault((record.model, kind), _Window(self._size))
                if window.add(value):
                    self._compare(record.model, kind, window)

    def _compare(self, model: str, kind: str, window: _Window) -> None:
        before, window.drift = window.drift, compare(kind, window.reference, list(window.newest))
        if window.drift.alert == before.alert:
            return
        told = ", ".join(f"{name} {value:.3f}" for name, value in window.drift.distance.items())
        if window.drift.alert:
            log.warning("drift of %s of %s: %s", kind, model, told)
        else:
            log.info("drift of %s of %s is over: %s", kind, model, told)

    def now(self) -> list[tuple[str, str, Drift]]:
        """(model, kind, drift) of each that has been asked; without distances until both windows are full."""
        with self._lock:
            return [(model, kind, window.drift) for (model, kind), window in sorted(self._windows.items())]
