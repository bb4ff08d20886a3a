"""Self-similarity: whether a text says again what another one said, by the longest common subsequence of their words.

ROUGE-L as Self-Instruct uses it (Wang et al. 2022, arXiv 2212.10560): the F-measure of the subsequence's length over
both lengths; a text that reaches 0.7 of one that was taken before is a near copy. Only texts that share enough words
are compared, memory is bounded, and the oldest are forgotten first. This module does not know where texts come from.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from typing import NamedTuple

_WORD = re.compile(r"\w+")
_MAX_WORDS = 1000


class Similar(NamedTuple):
    """The taken text that is nearest, and how near."""

    key: str
    score: float


def words_of(text: str) -> list[str]:
    """Words in small letters, the first 1,000."""
    return _WORD.findall(text.casefold())[:_MAX_WORDS]


def common_subsequence(one: list[str], other: list[str]) -> int:
    """The length of the longest common subsequence, by bits (Hyyrö 2004): one step a word of `other`."""
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | (1 << place)
    whole = (1 << len(one)) - 1
    row = whole
    for word in other:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & whole
    return len(one) - row.bit_count()


def rouge_l(one: list[str], other: list[str]) -> float:
    """F-measure, from 0 to 1; 0 if either is empty."""
    return 2 * common_subsequence(one, other) / (len(one) + len(other)) if one and other else 0.0


class TakenTexts:
    """The texts taken so far, at most `limit` of them."""

    def __init__(self, *, threshold: float = 0.7, limit: int = 20_000) -> None:
        self.threshold, self.limit = threshold, limit
        self._words: dict[str, list[str]] = {}
        self._holders: dict[str, dict[str, int]] = defaultdict(dict)
        self._order: deque[str] = deque()

    def __len__(self) -> int:
        return len(self._words)

    def nearest(self, text: str) -> Similar | None:
        """The first of the nearest texts that reach the threshold; None if there is none."""
        words = words_of(text)
        shared: Counter[str] = Counter()
        for word, count in Counter(words).items():
            for key, there in self._holders.get(word, {}).items():
                shared[key] += min(count, there)
        best: Similar | None = None
        for key, number in shared.items():
            other = self._words[key]
            least = max(self.threshold, best.score if best else 0.0)
            # A subsequence is no longer than what is shared in any order.
            if 2 * number < least * (len(words) + len(other)):
                continue
            score = rouge_l(words, other)
            if score >= self.threshold and (best is None or score > best.score):
                best = Similar(key, score)
        return best

    def take(self, key: str, text: str) -> None:
        """Remember a text under a key of its own."""
        if len(self._order) >= self.limit:
            self._forget(self._order.popleft())
        self._words[key] = words = words_of(text)
        self._order.append(key)
        for word, count in Counter(words).items():
            self._holders[word][key] = count

    def _forget(self, key: str) -> None:
        for word in set(self._words.pop(key)):
            del self._holders[word][key]
            if not self._holders[word]:
                del self._holders[word]
