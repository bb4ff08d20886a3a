"""Token costs: what a tokenizer makes of one language's sentences, in numbers whose definition stands beside them.

Counts are of tokens without BOS, EOS or any special token. Premium: Petrov et al. 2023, "Language Model Tokenizers
Introduce Unfairness Between Languages" (arXiv:2305.15425); fertility and split words: Rust et al. 2021, "How Good is
Your Tokenizer?" (arXiv:2012.15613). This module does not know files or runs.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bloomery.core.errors import DataError
from bloomery.tokenizer.scripts import UNSPACED, script_of
from bloomery.tokenizer.tokenizer import Tokenizer

_BATCH = 8192
_NORMAL_95 = 1.959963984540054  # the 97.5% quantile of the standard normal distribution
_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_WORD = re.compile(r"\S+")
_EXCERPT = 80


@dataclass(frozen=True, kw_only=True)
class LanguageCost:
    """One language by one tokenizer. A share is from 0 to 1; None is what cannot be said."""

    language: str
    script: str
    sentences: int
    aligned: int
    """Sentences that the reference language has too: those that the premium is about."""
    median_tokens: float
    """Of a sentence, the middle one; the mean of the two in the middle if their number is even."""
    mean_tokens: float
    p90_tokens: int
    """The least count that at least 90% of the sentences do not exceed (nearest rank)."""
    max_tokens: int
    tokens: int
    text_bytes: int
    """UTF-8."""
    characters: int
    """Unicode code points."""
    tokens_per_byte: float
    tokens_per_character: float
    premium: float | None
    """Tokens of the aligned sentences over those of the reference language for the same: what the same content costs
    in relation, in money as in time, wherever each token costs the same."""
    premium_low: float | None
    premium_high: float | None
    """The 95% interval of the premium over sentences drawn like these: a ratio estimator's (Cochran 1977, 6.4)."""
    median_premium: float | None
    """The median of the sentences' own ratios."""
    words: int | None
    """What stands between white space, without punctuation at its ends, and holds a letter. None for scripts that put
    no space between words."""
    single_token_words: float | None
    """The share of words that are one token, as they stand: with the space before them."""
    tokens_per_word: float | None
    """Fertility."""
    single_token_characters: float | None
    """The share of characters, but white space, that the vocabulary holds as tokens of their own."""
    unknown_share: float
    """The share of tokens that stand for what the vocabulary lacks."""
    byte_share: float | None
    """The share of tokens that are less than a character: byte fallback, or a part of a character's bytes."""
    round_trip_failures: int
    """Sentences that decoding does not give back exactly."""
    failures_beyond_normalisation: int
    """Those of them that differ even without regard to case, white space, accents and compatibility forms (NFKD)."""
    first_failure: Mapping[str, str] | None
    """A sentence of those, else of the ones before, and what came back, cut to 80 characters."""

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass
class LanguageText:
    """One language's sentences, with what is the same for every tokenizer."""

    language: str
    texts: Sequence[str]
    places: NDArray[np.int64]
    """For each aligned sentence, its place here."""
    reference_places: NDArray[np.int64]
    """And its place among those of the reference language."""

    @cached_property
    def script(self) -> str:
        return script_of(self.texts)

    @cached_property
    def text_bytes(self) -> int:
        return sum(len(text.encode("utf-8", "surrogatepass")) for text in self.texts)

    @cached_property
    def characters(self) -> Counter[str]:
        """How often each occurs."""
        found = Counter[str]()
        for text in self.texts:
            found.update(text)
        return found

    @cached_property
    def words(self) -> Counter[tuple[bool, str]] | None:
        """(whether a space is before it, word) and how often; None where nothing tells words apart."""
        if self.script in UNSPACED:
            return None
        found = Counter[tuple[bool, str]]()
        for text in self.texts:
            found.update(words_of(text))
        return found


def words_of(text: str) -> Iterator[tuple[bool, str]]:
    """(whether a space is before it, word) of a text."""
    for match in _WORD.finditer(text):
        chunk = match.group()
        start, end = 0, len(chunk)
        while start < end and not _in_word(chunk[start]):
            start += 1
        while end > start and not _in_word(chunk[end - 1]):
            end -= 1
        word = chunk[start:end]
        if any(c.isalpha() for c in word):
            yield start == 0 and match.start() > 0, word


def _in_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character)[0] == "M"


@dataclass
class TokenKinds:
    """What the ids of a tokenizer are: `unknown` and `partial` by id, or None where tokens have no bytes."""

    tokenizer: Tokenizer
    unknown: NDArray[np.bool_] = field(init=False)
    partial: NDArray[np.bool_] | None = field(init=False)
    whole: frozenset[str] = field(init=False)
    """Characters that are a token of their own."""

    def __post_init__(self) -> None:
        size = self.tokenizer.vocab_size
        self.unknown = np.zeros(size + 1, bool)
        if (index := unknown_id(self.tokenizer)) is not None:
            self.unknown[index] = True
        try:
            tokens = [self.tokenizer.token_bytes(index) for index in range(size)]
        except DataError:  # a tokenizer whose tokens are words and their parts, not bytes
            self.partial, self.whole = None, frozenset()
            return
        self.partial = np.zeros(size + 1, bool)
        whole = set()
        for index, data in enumerate(tokens):
            try:
                text = data.decode()
            except UnicodeDecodeError:
                self.partial[index] = True
                continue
            if len(data) == 1 and _BYTE_TOKEN.fullmatch(self.tokenizer.token_text(index)):
                self.partial[index] = True
            elif len(text) == 1:
                whole.add(text)
        self.whole = frozenset(whole)

    def single_characters(self, characters: Counter[str]) -> float | None:
        """The share of these characters, but white space, that are a token."""
        seen = {c: count for c, count in characters.items() if not c.isspace()}
        if not seen:
            return None
        whole = self.whole
        if self.partial is None:
            encoded = zip(seen, self.tokenizer.encode_batch(list(seen)), strict=True)
            whole = {c for c, ids in encoded if len(ids) == 1 and not self.unknown[ids[0]]}
        return sum(count for c, count in seen.items() if c in whole) / sum(seen.values())


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """The id that stands for what the vocabulary lacks, or None."""
    model = tokenizer.description.get("model", {})
    if isinstance(index := model.get("unk_id"), int):
        return index
    text, vocab = model.get("unk_token"), model.get("vocab")
    found = vocab.get(text) if isinstance(vocab, Mapping) and isinstance(text, str) else None
    return found if isinstance(found, int) else None


def measure_language(
    text: LanguageText, kinds: TokenKinds, reference: NDArray[np.int64] | None
) -> tuple[LanguageCost, NDArray[np.int64]]:
    """(costs, tokens of each sentence). `reference`: tokens of the reference language's sentences; None for itself."""
    tokenizer = kinds.tokenizer
    counts = np.zeros(len(text.texts), np.int64)
    unknown = partial = 0
    failures = _Failures()
    for start in range(0, len(text.texts), _BATCH):
        batch = text.texts[start : start + _BATCH]
        encoded = tokenizer.encode_batch(batch)
        ids = np.fromiter((i for one in encoded for i in one), np.int64)
        unknown += int(kinds.unknown[ids].sum())
        partial += 0 if kinds.partial is None else int(kinds.partial[ids].sum())
        for place, (sentence, one) in enumerate(zip(batch, encoded, strict=True), start):
            counts[place] = len(one)
            failures.look(sentence, tokenizer.decode(one))
    total, characters = int(counts.sum()), text.characters.total()
    words = _words(text, tokenizer)
    return LanguageCost(
        language=text.language,
        script=text.script,
        sentences=len(counts),
        median_tokens=float(np.median(counts)),
        mean_tokens=total / len(counts),
        p90_tokens=int(np.quantile(counts, 0.9, method="inverted_cdf")),
        max_tokens=int(counts.max()),
        tokens=total,
        text_bytes=text.text_bytes,
        characters=characters,
        tokens_per_byte=total / text.text_bytes,
        tokens_per_character=total / characters,
        **premium_of(counts[text.places], (counts if reference is None else reference)[text.reference_places]),
        **words,
        single_token_characters=kinds.single_characters(text.characters),
        unknown_share=unknown / max(1, total),
        byte_share=None if kinds.partial is None else partial / max(1, total),
        round_trip_failures=failures.exact,
        failures_beyond_normalisation=failures.beyond,
        first_failure=failures.first,
    ), counts


def premium_of(tokens: NDArray[np.int64], reference: NDArray[np.int64]) -> dict[str, Any]:
    """The fields of LanguageCost about the premium, of aligned sentences' tokens, (N,) each.

    The interval is that of a ratio of means, its variance by Taylor expansion: the mean square of tokens - premium *
    reference over N and the squared mean of the reference.
    """
    size = len(tokens)
    found: dict[str, Any] = {"aligned": size}
    names = ("premium", "premium_low", "premium_high", "median_premium")
    if not size or not reference.sum():
        return found | dict.fromkeys(names)
    ratio = float(tokens.sum() / reference.sum())
    low = high = None
    if size > 1:
        spread = np.square(tokens - ratio * reference).sum() / (size - 1)
        margin = _NORMAL_95 * math.sqrt(spread / size) / float(reference.mean())
        low, high = max(0.0, ratio - margin), ratio + margin
    middle = float(np.median(tokens[reference > 0] / reference[reference > 0]))
    return found | dict(zip(names, (ratio, low, high, middle), strict=True))


def _words(text: LanguageText, tokenizer: Tokenizer) -> dict[str, Any]:
    names = ("words", "single_token_words", "tokens_per_word")
    if not text.words:
        return dict.fromkeys(names)
    # A tokenizer that puts a space in front of a text itself would see two.
    spaced = not tokenizer.strips_leading_space
    forms = [" " * (space and spaced) + word for space, word in text.words]
    lengths = np.array([len(ids) for ids in tokenizer.encode_batch(forms)], np.int64)
    counts = np.fromiter(text.words.values(), np.int64)
    total = int(counts.sum())
    single = float(counts[lengths == 1].sum() / total)
    return dict(zip(names, (total, single, float((lengths * counts).sum() / total)), strict=True))


class _Failures:
    """Sentences that do not come back as they were."""

    def __init__(self) -> None:
        self.exact = self.beyond = 0
        self.first: dict[str, str] | None = None

    def look(self, sentence: str, back: str) -> None:
        if sentence == back:
            return
        self.exact += 1
        beyond = _plain(sentence) != _plain(back)
        if self.first is None or (beyond and not self.beyond):
            self.first = {"sentence": sentence[:_EXCERPT], "came_back": back[:_EXCERPT]}
        self.beyond += beyond


def _plain(text: str) -> str:
    """The text without what normalisation may take: case, white space, marks and compatibility forms."""
    spelt = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in spelt if not c.isspace() and unicodedata.category(c)[0] not in "MC")
