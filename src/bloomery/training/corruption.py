"""Labels made on the fly: blanks to fill, spans to restore, middles to write, all from plain token ids.

Blanks: Devlin et al., arXiv 1810.04805 (80/10/10, whole words), at the share of Wettig et al., arXiv 2202.08005. Spans:
Raffel et al., arXiv 1910.10683, with the segmentation of their published code's description. Middles: Bavarian et al.,
arXiv 2207.14255, both orders. Every function takes its own random generator: equal generators give equal labels. This
module does not know models or batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bloomery.core.config import check_choices
from bloomery.core.errors import ConfigError
from bloomery.tokenizer import Tokenizer
from bloomery.training.linear_cross_entropy import IGNORED


@dataclass(frozen=True, kw_only=True)
class MaskingConfig:
    """How blanks are made."""

    share: float = 0.3
    """Of the tokens that are no special ones, at least one a row."""
    whole_words: bool = False
    """All tokens of a word or none."""
    replace: Literal["mask", "80/10/10"] = "mask"
    """What stands in a blank: the mask token; or that in 80%, any token in 10% and the token itself in 10%."""

    def __post_init__(self) -> None:
        check_choices(self, where="masking")
        if not 0 < self.share < 1:
            raise ConfigError(f'"masking.share" should be between 0 and 1, not {self.share:g}')


@dataclass(frozen=True, kw_only=True)
class SpanConfig:
    """How spans are taken out."""

    density: float = 0.15
    """Share of the tokens taken out."""
    mean_length: float = 3.0
    """Tokens of a span, on average."""

    def __post_init__(self) -> None:
        if not 0 < self.density < 1 or not self.mean_length >= 1:
            raise ConfigError('"spans.density" should be between 0 and 1, "spans.mean_length" at least 1')


@dataclass(frozen=True, kw_only=True)
class MiddleConfig:
    """How often documents are rearranged so that the middle comes last."""

    rate: float = 0.5
    """Share of documents."""
    suffix_first: float = 0.5
    """Share of those in which the suffix comes before the prefix."""

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1 or not 0 <= self.suffix_first <= 1:
            raise ConfigError('"middle.rate" and "middle.suffix_first" should be from 0 to 1')


@dataclass(frozen=True)
class MiddleTokens:
    """The ids that mark the parts."""

    prefix: int
    middle: int
    suffix: int


class WordEdges:
    """Which tokens of a vocabulary go on with the word before them: for masking whole words.

    A token goes on if it is marked so (`##` in WordPiece), or if it begins with a letter or digit and the one before
    ends with one. Bytes of a character that is split count as letters.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        texts = [tokenizer.token_text(i) for i in range(tokenizer.vocab_size)]
        pieces = any(text.startswith("##") for text in texts)
        self.goes_on = np.zeros(len(texts), dtype=bool)
        self.open_end = np.zeros(len(texts), dtype=bool)
        for index, text in enumerate(texts):
            if index in tokenizer.special_ids or not text:
                continue
            if pieces:
                self.goes_on[index], self.open_end[index] = text.startswith("##"), True
            else:
                self.goes_on[index], self.open_end[index] = _inner(text[0]), _inner(text[-1])

    def words(self, row: np.ndarray) -> np.ndarray:
        """(T,) ids -> (T,) numbers of the words that they belong to."""
        follows = self.goes_on[row[1:]] & self.open_end[row[:-1]]
        return np.concatenate([[0], np.cumsum(~follows)])


def _inner(character: str) -> bool:
    # In a byte-level vocabulary a space is spelt "Ġ", a line break "Ċ", other bytes beyond ASCII as letters.
    return character not in "Ġ▁Ċĉč" and (character.isalnum() or ord(character) > 127)


def mask_tokens(
    input_ids: np.ndarray,
    maskable: np.ndarray,
    rng: np.random.Generator,
    config: MaskingConfig,
    *,
    mask_id: int,
    random_ids: np.ndarray,
    edges: WordEdges | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(B, T) ids -> what the model sees and the labels, both (B, T); labels are -100 but at blanks.

    `maskable` (B, T) says which tokens may become blanks, `random_ids` which may stand in for one. Each row has
    round(share x maskable) blanks, or the few more that whole words take. A row with nothing maskable has none.
    """
    seen, labels = input_ids.copy(), np.full_like(input_ids, IGNORED)
    for row in range(len(input_ids)):
        places = np.flatnonzero(maskable[row])
        if not len(places):
            continue
        wanted = max(1, round(config.share * len(places)))
        if edges is None:
            chosen = rng.permutation(places)[:wanted]
        else:
            words = edges.words(input_ids[row])[places]
            names, counts = np.unique(words, return_counts=True)
            order = rng.permutation(len(names))
            enough = int(np.searchsorted(np.cumsum(counts[order]), wanted)) + 1
            chosen = places[np.isin(words, names[order[:enough]])]
        labels[row, chosen] = input_ids[row, chosen]
        if config.replace == "mask":
            seen[row, chosen] = mask_id
            continue
        lot = rng.random(len(chosen))
        seen[row, chosen[lot < 0.8]] = mask_id
        other = chosen[lot >= 0.9]
        seen[row, other] = rng.choice(random_ids, len(other))
    return seen, labels


def corrupt_spans(
    ids: np.ndarray, rng: np.random.Generator, config: SpanConfig, *, sentinels: np.ndarray, end_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) ids -> source and target: each span is one sentinel in the source; the target gives each sentinel with
    its span, and one more sentinel. Both end with `end_id`. Fewer spans if there are not enough sentinels."""
    length = len(ids)
    noise = min(max(round(length * config.density), 1), length - 1)
    spans = min(max(round(noise / config.mean_length), 1), noise, length - noise, len(sentinels) - 1)
    if length < 2 or spans < 1:
        raise ConfigError(f"{length} tokens and {len(sentinels)} sentinels are too few to take out a span")
    taken, kept = _segments(noise, spans, rng), _segments(length - noise, spans, rng)
    source: list[np.ndarray] = []
    target: list[np.ndarray] = []
    at = 0
    for number in range(spans):
        mark = sentinels[number : number + 1]
        source += [ids[at : at + kept[number]], mark]
        at += kept[number]
        target += [mark, ids[at : at + taken[number]]]
        at += taken[number]
    end = np.array([end_id])
    return np.concatenate([*source, end]), np.concatenate([*target, sentinels[spans : spans + 1], end])


def _segments(total: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """`total` in `count` parts of at least one, every way equally likely."""
    cuts = np.sort(rng.permutation(total - 1)[: count - 1]) + 1
    return np.diff(np.concatenate([[0], cuts, [total]]))


def move_middle(
    ids: np.ndarray, rng: np.random.Generator, config: MiddleConfig, tokens: MiddleTokens
) -> tuple[np.ndarray, bool]:
    """(N,) ids of a document's text -> the ids with the middle last, or as they were; and whether it was moved.

    Prefix, suffix, middle; or with the suffix first: the mark of the prefix, then of the suffix, the suffix, the mark
    of the middle, and prefix and middle as one. Cuts fall between tokens, each place equally likely.
    """
    if len(ids) < 3 or rng.random() >= config.rate:
        return ids, False
    first, last = np.sort(rng.integers(0, len(ids) + 1, 2))
    prefix, middle, suffix = ids[:first], ids[first:last], ids[last:]
    pre, mid, suf = (np.array([i]) for i in (tokens.prefix, tokens.middle, tokens.suffix))
    if rng.random() < config.suffix_first:
        return np.concatenate([pre, suf, suffix, mid, prefix, middle]), True
    return np.concatenate([pre, prefix, suf, suffix, mid, middle]), True
