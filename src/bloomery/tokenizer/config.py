"""TokenizerConfig: what kind of tokenizer is learnt, of what size, from how much text.

This module does not know how any of it is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from bloomery.core.config import to_dict
from bloomery.core.errors import ConfigError
from bloomery.tokenizer.special import IMAGE, MASK, MIDDLE_TOKENS, SENTINEL, SPECIAL_TOKENS, START_OF_TEXT

MIN_VOCAB_SIZE = 256 + len(SPECIAL_TOKENS)
_MAX_VOCAB_SIZE = 1 << 20
_MAX_KMERS = 1 << 16
_LETTERS = {"kmer": 4, "codon": 4, "residue": 20}

Kind = Literal["bpe", "unigram", "wordpiece", "character", "word", "kmer", "codon", "residue"]
_UNKNOWN = ("unigram", "character", "wordpiece")
"""Kinds with a token for what they do not know."""
_NO_BYTES = ("wordpiece",)
"""Kinds that cannot write every text."""


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    vocab_size: int = 4096
    """Ids in all, special tokens included; at least 259 (256 bytes and 3 special tokens, no merges)."""
    kind: Kind = "bpe"
    """Byte pairs; SentencePiece's Unigram; BERT's word pieces; one character a token; one word; and of sequences: k
    letters of DNA, codons, residues (of which nothing is learnt: `vocab_size` does not matter)."""
    min_frequency: int = 2
    """How often a pair of tokens must occur to be merged."""
    digits: int = 3
    """Digits are split into groups of at most this many: 3 as GPT-4 and Llama 3 do, 1 as Qwen does."""
    sample_bytes: int = 200_000_000
    """Merges are learned on at most this many bytes of the training split: the trainer's memory grows with them."""
    max_token_bytes: int = 32
    """No token is longer than this many bytes (unigram, wordpiece: characters)."""
    count_first: bool = False
    """Count words first, in bounded memory (on disk where they are many), then learn from the counts: for text larger
    than memory. The result is the same. Kinds other than bpe always do."""
    max_words: int = 500_000
    """Different words held in memory at a time where words are counted first; learnt from are the most frequent.
    The library needs 1 to 2 kB for each."""
    lowercase: bool = False
    """wordpiece: letters become small and lose their accents, as in BERT's uncased vocabularies."""
    kmer: int = 6
    """kmer: letters of a token."""
    masks: bool = False
    """Add a token that stands in a blank, for masked models."""
    sentinels: int = 0
    """Add this many tokens that stand for spans, for span corruption; T5 has 100."""
    fill_in_the_middle: bool = False
    """Add tokens that mark prefix, middle and suffix."""
    encloses: bool = False
    """A text begins with a token of its own and ends with the end token, as contrastive models read it."""
    images: bool = False
    """Add a token that stands where a picture is."""
    metadata_fields: tuple[str, ...] = ()
    """Learn from these texts of each document's metadata, too: translations, say."""
    texts: bool = True
    """Learn from the documents' own texts; else from `metadata_fields` alone."""

    def __post_init__(self) -> None:
        limits = {
            "vocab_size": (MIN_VOCAB_SIZE, _MAX_VOCAB_SIZE),
            "min_frequency": (1, 1 << 31),
            "digits": (1, 16),
            # The trainer counts in 32 bits; counts that are made before are made to fit.
            "sample_bytes": (1, 1 << 50 if self.counts else 4_000_000_000),
            "max_token_bytes": (1, 1024),
            "max_words": (1000, 1 << 31),
            "kmer": (1, 8),
            "sentinels": (0, 1000),
        }
        for key, (low, high) in limits.items():
            if not low <= getattr(self, key) <= high:
                raise ConfigError(f'"{key}" is {getattr(self, key)}, but should be from {low:,} to {high:,}')
        if not self.texts and not self.metadata_fields:
            raise ConfigError('"texts" is false and "metadata_fields" is empty: there is nothing to learn from')
        if (least := self.base_size) > self.vocab_size and self.alphabet_size == 0:
            base = "the unknown token" if self.kind in _NO_BYTES else "256 bytes"
            raise ConfigError(f'"vocab_size" is {self.vocab_size}, but {base} and special tokens are {least}')
        if self.lowercase and self.kind != "wordpiece":
            raise ConfigError(f'"lowercase" has no meaning for {self.kind}', hint='kind = "wordpiece"')

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """All of them, in the order of their ids."""
        masks = (MASK,) if self.masks else ()
        sentinels = tuple(SENTINEL.format(number) for number in range(self.sentinels))
        middles = MIDDLE_TOKENS if self.fill_in_the_middle else ()
        pictures = ((START_OF_TEXT,) if self.encloses else ()) + ((IMAGE,) if self.images else ())
        return (*SPECIAL_TOKENS, *masks, *sentinels, *middles, *pictures)

    @property
    def counts(self) -> bool:
        """Whether words are counted before anything is learnt."""
        return self.count_first or self.kind in ("unigram", "wordpiece", "word")

    @property
    def alphabet_size(self) -> int:
        """Letters of the sequences that the kind is for; 0 for text."""
        return _LETTERS.get(self.kind, 0)

    @property
    def base_size(self) -> int:
        """Ids that are there whatever is learnt: special tokens, bytes, the unknown one."""
        unknown = 1 if self.kind in _UNKNOWN else 0
        return len(self.special_tokens) + unknown + (0 if self.kind in _NO_BYTES else 256)


def plain_config(config: TokenizerConfig) -> dict[str, Any]:
    """The config as JSON data, without the keys that ask for nothing and that there were not always: a tokenizer made
    before keeps its key."""
    data = to_dict(config)
    for name in ("kind", "count_first", "max_words", "lowercase", "kmer"):
        if data[name] == TokenizerConfig.__dataclass_fields__[name].default:
            del data[name]
    return data
