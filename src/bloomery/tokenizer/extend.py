"""More tokens for a tokenizer that is there: merges learnt on a domain's text, after those that it has.

Every word is first cut as the tokenizer cuts it; pairs of its tokens are then merged as byte pairs are (Sennrich et
al., 2016, arXiv:1508.07909). The old merges come first, so every text is cut as before and then merged further, and
every new token is made of old ones: `pieces` says which. Ids that there were keep their meaning; new ones follow.

This module does not know models: see `models.vocabulary` for the rows of an embedding.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.core.errors import ConfigError, DataError
from bloomery.tokenizer.counts import SEPARATOR, WordCounts, counter_of, fed, halvings
from bloomery.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

_FIRST = 0x10000  # characters from here on stand for tokens while pairs are learnt
_WORDS_AT_ONCE = 1 << 16


@dataclass(frozen=True, kw_only=True)
class ExtendConfig:
    tokens: int = 1000
    """Tokens to add."""
    min_frequency: int = 10
    """How often a pair of tokens must occur to become one: a row that training seldom sees learns little."""
    max_token_bytes: int = 32
    """No new token is longer than this many bytes."""
    sample_bytes: int = 2_000_000_000
    """Learn from at most this many bytes of the training split."""
    max_words: int = 500_000
    """Different words held in memory at a time; further ones are counted on disk."""

    def __post_init__(self) -> None:
        limits = {
            "tokens": (1, 1 << 18),
            "min_frequency": (1, 1 << 31),
            "max_token_bytes": (2, 1024),
            "sample_bytes": (1, 1 << 50),
            "max_words": (1000, 1 << 31),
        }
        for key, (low, high) in limits.items():
            if not low <= getattr(self, key) <= high:
                raise ConfigError(f'"{key}" is {getattr(self, key)}, but should be from {low:,} to {high:,}')


@dataclass(frozen=True)
class Extension:
    """The tokenizer with its new tokens, and the old ids that each new id is made of."""

    tokenizer: Tokenizer
    pieces: Mapping[int, tuple[int, ...]]


def extend(
    tokenizer: Tokenizer, texts: Iterable[str], config: ExtendConfig, *, folder: Path | None = None
) -> Extension:
    """Learn new tokens from texts. DataError for a tokenizer that is no byte-level BPE, and where no pair is frequent
    enough. Counts go to `folder` where they are many."""
    described = tokenizer.description
    _check(tokenizer, described)
    counts = WordCounts(counter_of(_bare(described, split=True)), max_words=config.max_words, folder=folder)
    counts.add(texts)
    ids = {**described["model"]["vocab"], **{one["content"]: one["id"] for one in described["added_tokens"]}}
    spelt = {index: text for text, index in ids.items()}
    cut = _cut(_bare(described, split=False), counts.most())
    merges = _learn(cut, config)
    special = {one["content"] for one in described["added_tokens"]}
    vocab = dict(ids)
    added: list[list[str]] = []
    pieces: dict[int, tuple[int, ...]] = {}
    for left, right in merges:
        first, second = ("".join(spelt[index] for index in part) for part in (left, right))
        text = first + second
        if len(text) > config.max_token_bytes or text in special or first not in vocab or second not in vocab:
            continue
        added.append([first, second])
        if text not in vocab:
            vocab[text] = tokenizer.vocab_size + len(pieces)
            pieces[vocab[text]] = left + right
    if not pieces:
        hint = "more text, or a smaller extend.min_frequency"
        raise DataError("the text holds no pair of tokens that is frequent enough", hint=hint)
    old = [one.split(" ", 1) if isinstance(one, str) else one for one in described["model"]["merges"]]
    model = {**described["model"], "vocab": vocab, "merges": [*old, *added]}
    return Extension(tokenizer.described_as({**described, "model": model}), pieces)


def _check(tokenizer: Tokenizer, described: Mapping[str, Any]) -> None:
    model = described.get("model", {})
    steps = (described.get("decoder") or {}).get("decoders", [described.get("decoder") or {}])
    byte_level = any(step.get("type") == "ByteLevel" for step in steps) and not model.get("byte_fallback")
    if model.get("type") != "BPE" or not byte_level or not model.get("merges"):
        kind = "BPE of characters" if model.get("type") == "BPE" else model.get("type")
        raise DataError(
            f"{tokenizer.source} cannot be extended: it is a {kind} tokenizer, not byte-level BPE",
            hint="train one of its own for the domain: bloomery tokenize",
        )
    if model.get("end_of_word_suffix") or model.get("continuing_subword_prefix"):
        raise DataError(f"{tokenizer.source} cannot be extended: it marks the ends of words")


def _bare(described: Mapping[str, Any], *, split: bool) -> Backend:
    """The tokenizer without added tokens: what splits text, or what cuts a word that is split off."""
    from tokenizers import Tokenizer

    rest = {} if split else {"normalizer": None, "pre_tokenizer": None}
    document = {**described, "added_tokens": [], "post_processor": None, "truncation": None, "padding": None, **rest}
    return Tokenizer.from_str(json.dumps(document))


def _cut(backend: Backend, words: list[tuple[str, int]]) -> list[tuple[tuple[int, ...], int]]:
    """(ids of a word, its count) of every word that is more than one token."""
    found: Counter[tuple[int, ...]] = Counter()
    for start in range(0, len(words), _WORDS_AT_ONCE):
        group = words[start : start + _WORDS_AT_ONCE]
        texts = [word for word, _ in group]
        for one, (_, count) in zip(backend.encode_batch_fast(texts, add_special_tokens=False), group, strict=True):
            if len(one.ids) > 1:
                found[tuple(one.ids)] += count
    return sorted(found.items())


def _learn(
    words: list[tuple[tuple[int, ...], int]], config: ExtendConfig
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Pairs of runs of ids, in the order in which the library merges them: a character stands for each id."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    used = sorted({index for ids, _ in words for index in ids})
    letters = {index: chr(_FIRST + place) for place, index in enumerate(used)}
    named = [("".join(letters[index] for index in ids), count) for ids, count in words]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.CharDelimiterSplit(SEPARATOR)
    trainer = trainers.BpeTrainer(
        vocab_size=len(used) + config.tokens, min_frequency=config.min_frequency, special_tokens=[], show_progress=False
    )
    backend.train_from_iterator(fed(named, halved=halvings(named)), trainer)
    for pair in json.loads(backend.to_str())["model"]["merges"]:
        left, right = pair.split(" ", 1) if isinstance(pair, str) else pair
        yield (
            tuple(used[ord(letter) - _FIRST] for letter in left),
            tuple(used[ord(letter) - _FIRST] for letter in right),
        )
