"""FastEncoder: byte-level BPE by tiktoken's engine, which is several times as fast as the `tokenizers` library's.

tiktoken merges by rank, a tokenizer.json by a list of merges: `merge_order` proves when the two are the same. Any other
tokenizer is refused, with the reason.

Text is split by the pattern of the tokenizer itself, if it is one of those that are known to mean the same to both
engines, written so that tiktoken's runs it fastest. This module does not know what is done with ids.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bloomery.core.processors import processors
from bloomery.tokenizer.description import byte_level_alphabet
from bloomery.tokenizer.kinds import PATTERN
from bloomery.tokenizer.merge_order import Refusal, check_order, merges_of
from bloomery.tokenizer.tiktoken_file import GPT2_PATTERN, known_patterns
from bloomery.tokenizer.tokenizer import Tokenizer, in_groups, not_text

_ALPHABET = byte_level_alphabet()
_MAX_DIGITS = 16
_SPACES = r"|\s+(?!\S)|\s+"


class FastEncoder:
    """Ids of many texts at once, the same as `Tokenizer.encode_batch`, on `threads` threads.

    Refusal, with the reason, for a tokenizer that tiktoken's algorithm is not known to be the same for.
    """

    def __init__(self, tokenizer: Tokenizer, *, threads: int = 0) -> None:
        from tiktoken import Encoding

        ranks, pattern = tiktoken_terms(tokenizer)
        self._tokenizer = tokenizer
        self._encoding = Encoding(
            name=tokenizer.source, pat_str=grouped(pattern), mergeable_ranks=ranks, special_tokens={}
        )
        self.threads = threads or default_threads()
        self.left_to_library: list[str] = []
        """Why, for each piece of text that its engine failed on; the ids of these are the library's, and the same."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """As `Tokenizer.encode_batch`; RequestError for what is no text."""
        encoded: list[list[int]] = [[] for _ in texts]
        groups = list(_checked(texts, self.threads))
        if self.threads == 1 or len(groups) == 1:
            made = list(map(self._encode_group, groups))
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                made = list(pool.map(self._encode_group, groups))
        for group, found in zip(groups, made, strict=True):
            for (index, _), ids in zip(group, found, strict=True):
                if encoded[index]:
                    encoded[index].extend(ids)
                else:
                    encoded[index] = ids
        return encoded

    def _encode_group(self, group: list[tuple[int, str]]) -> list[list[int]]:
        return [self._encode(piece) for _, piece in group]

    def _encode(self, text: str) -> list[int]:
        try:
            return self._encoding.encode_ordinary(text)
        except BaseException as error:  # a megabyte of spaces is too much for its regex engine: it panics
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            self.left_to_library.append(f"{type(error).__name__}: {error}"[:200])
            return self._tokenizer.encode(text)


def default_threads() -> int:
    """As many as this process has cores; one where TOKENIZERS_PARALLELISM=false asks for it."""
    if os.environ.get("TOKENIZERS_PARALLELISM", "").lower() in ("false", "0", "off"):
        return 1
    given = os.environ.get("RAYON_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else processors()


def batch_encoder(tokenizer: Tokenizer) -> tuple[FastEncoder | Tokenizer, str]:
    """(whose `encode_batch` is fastest, why that is not tiktoken's engine or "")."""
    try:
        return FastEncoder(tokenizer), ""
    except Refusal as why:
        return tokenizer, str(why)


def tiktoken_terms(tokenizer: Tokenizer) -> tuple[dict[bytes, int], str]:
    """(rank of every token's bytes, pattern that splits text) under which tiktoken gives the same ids.

    Refusal, with the reason, where there are none.
    """
    described = tokenizer.description
    model = described.get("model", {})
    _check_model(model, described)
    pattern = _pattern(described)
    vocab: dict[str, int] = model["vocab"]
    special = {one["content"] for one in described.get("added_tokens", [])}
    if not all(one.get("special") for one in described.get("added_tokens", [])):
        raise Refusal("it has added tokens that are found in plain text")
    if missing := [letter for letter in _ALPHABET if letter not in vocab]:
        raise Refusal(f"{len(missing)} of the 256 bytes are not in its vocabulary")
    merges, whole = merges_of(model), bool(model.get("ignore_merges"))
    tokens = {text: vocab[text] for text in (*_ALPHABET, *(left + right for left, right in merges))}
    if whole:
        if any(text not in tokens and text not in special for text in vocab):
            raise Refusal("it has whole words that are not made of merges")
        _check_special(tokenizer, special)
    check_order(merges, _ALPHABET.keys(), tokens, whole=whole)
    return {bytes(_ALPHABET[letter] for letter in text): index for text, index in tokens.items()}, pattern


def _check_model(model: Mapping[str, Any], described: Mapping[str, Any]) -> None:
    kind = model.get("type")
    if kind != "BPE" or model.get("byte_fallback"):
        raise Refusal(f"it is no byte-level BPE ({kind}{' of characters' if kind == 'BPE' else ''})")
    if described.get("normalizer") is not None:
        raise Refusal(f"it changes text before it splits it ({described['normalizer'].get('type')})")
    odd = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    if used := [name for name in odd if model.get(name)]:
        raise Refusal(f"it has a {used[0]}")


def _pattern(described: Mapping[str, Any]) -> str:
    """The pattern that splits text, if both engines are known to read it alike."""
    outer = described.get("pre_tokenizer") or {}
    steps = outer.get("pretokenizers", [outer])
    last = steps[-1]
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space"):
        raise Refusal("it does not split text by one pattern")
    if len(steps) == 1 and last.get("use_regex", True):
        return GPT2_PATTERN
    first = steps[0]
    plain = first.get("type") == "Split" and str(first.get("behavior")).lower() == "isolated"
    if len(steps) != 2 or not plain or first.get("invert") or last.get("use_regex", True):
        raise Refusal("it does not split text by one pattern")
    pattern = (first.get("pattern") or {}).get("Regex")
    ours = {PATTERN % digits for digits in range(1, _MAX_DIGITS + 1)}
    if pattern not in ours | known_patterns():
        raise Refusal("it splits text by a pattern of its own")
    return pattern


def grouped(pattern: str) -> str:
    """The same pattern for fancy-regex, tiktoken's engine: a look-ahead makes it try every alternative by itself, one
    after the other, unless they stand in a group without one, which a single automaton reads.

    Spaces come last: at the text's end all of them, before other text all but the last, or else the only one.
    """
    words, spaces, rest = pattern.rpartition(_SPACES)
    return pattern if rest or not spaces else rf"(?:{words}|\s+\z)|\s+(?!\S)|\s"


def _check_special(tokenizer: Tokenizer, special: set[str]) -> None:
    """With `ignore_merges` a piece of text that is in the vocabulary is taken whole: no special token may be one."""
    from tokenizers import Tokenizer as Backend

    splitter = Backend.from_str(json.dumps({**tokenizer.description, "added_tokens": []})).pre_tokenizer
    if splitter is not None and any(len(splitter.pre_tokenize_str(text)) == 1 for text in special):
        raise Refusal("plain text can become one of its special tokens")


def _checked(texts: Sequence[str], threads: int) -> Iterator[list[tuple[int, str]]]:
    """Groups of (index of the text, piece of it), known to be valid Unicode: tiktoken would replace what is not."""
    try:
        for group in in_groups(texts, cut=True, parts=threads):
            for _, piece in group:
                if not piece.isascii():
                    piece.encode()
            yield group
    except (UnicodeEncodeError, TypeError, AttributeError) as error:
        raise not_text(texts) from error
