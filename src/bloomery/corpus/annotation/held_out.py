"""Held out: texts of evaluation files that nothing made here may contain.

A text overlaps if it shares a run of `num_words` words with a held-out text, or holds one that is shorter than that (5
words or more) in full, or is one. It fails closed: a file that cannot be read, or of which a line gives no text, is an
error before anything is made, and so is one without texts. This module does not know what is made.
"""

from __future__ import annotations

import csv
import io
import json
import lzma
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bloomery.core.config import digest
from bloomery.core.errors import ConfigError, DataError
from bloomery.corpus.decontaminate import Hashes, RunHasher, words_of

_SHORTEST_WORDS = 5
_MAX_FILE_BYTES = 1 << 30


class HeldOut:
    """The words of held-out texts."""

    def __init__(self, num_words: int = 13) -> None:
        if not _SHORTEST_WORDS <= num_words <= 100:
            raise ConfigError(f'"num_words" is {num_words}, but should be from {_SHORTEST_WORDS} to 100')
        self.num_words = num_words
        self.texts = 0
        self._whole: set[str] = set()
        self._hashers = {num_words: RunHasher(num_words)}
        self._added: dict[int, list[Hashes]] = defaultdict(list)
        self._runs: dict[int, Hashes] = {}

    def add(self, text: str) -> None:
        words = words_of(text)
        if not words:
            return
        self.texts += 1
        self._whole.add(digest(words))
        length = min(len(words), self.num_words)
        if length >= _SHORTEST_WORDS:
            self._added[length].append(self._hasher(length).hashes(words))

    def overlap(self, text: str) -> str:
        """The words that a text shares, or ""."""
        words = words_of(text)
        if words and digest(words) in self._whole:
            return " ".join(words[: self.num_words])
        self._seal()
        for length, runs in self._runs.items():
            hashes = self._hasher(length).hashes(words)
            places = np.minimum(np.searchsorted(runs, hashes), len(runs) - 1)
            found = np.flatnonzero(runs[places] == hashes)
            if len(found):
                return " ".join(words[found[0] : found[0] + length])
        return ""

    def _seal(self) -> None:
        """What was added joins the sorted runs."""
        for length, added in self._added.items():
            self._runs[length] = np.unique(np.concatenate([self._runs.get(length, added[0][:0]), *added]))
        self._added.clear()

    def _hasher(self, length: int) -> RunHasher:
        if length not in self._hashers:
            self._hashers[length] = RunHasher(length)
        return self._hashers[length]


def read_held_out(paths: Sequence[str | Path], *, num_words: int = 13) -> HeldOut:
    """The texts of files: JSON (lines or one value: every text in it), CSV and TSV (every field), else each line; .xz
    too.

    DataError, naming file and line, for whatever cannot be read; ConfigError for a file that is not there.
    """
    held = HeldOut(num_words)
    for path in paths:
        path = Path(path).expanduser()
        if not path.is_file():
            raise ConfigError(f"no held-out file {path}", hint="without it nothing could be kept out of what is made")
        before = held.texts
        for text in _texts_of(path):
            held.add(text)
        if held.texts == before:
            raise DataError(f"the held-out file {path} has no text", hint="leave it out, if that is right")
    return held


def _texts_of(path: Path) -> Iterator[str]:
    text = _read(path)
    name = path.with_suffix("").name if path.suffix == ".xz" else path.name
    kind = Path(name).suffix.lower()
    if kind in (".jsonl", ".ndjson"):
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield from _strings(_parsed(line, f"{path}, line {number}"))
    elif kind == ".json":
        yield from _strings(_parsed(text, str(path)))
    elif kind in (".csv", ".tsv"):
        try:
            for row in csv.reader(io.StringIO(text), delimiter="," if kind == ".csv" else "\t", strict=kind == ".csv"):
                yield from row
        except csv.Error as error:
            raise DataError(f"{path} cannot be read as {kind[1:].upper()}: {error}") from error
    else:
        yield from text.split("\n")


def _read(path: Path) -> str:
    try:
        with lzma.open(path, "rb") if path.suffix == ".xz" else path.open("rb") as stream:
            data = stream.read(_MAX_FILE_BYTES + 1)
        if len(data) > _MAX_FILE_BYTES:
            raise DataError(f"the held-out file {path} is larger than {_MAX_FILE_BYTES >> 30} GiB")
        if b"\0" in data:
            raise DataError(f"the held-out file {path} is binary", hint="give the texts themselves: JSON, CSV or lines")
        return data.decode("utf-8-sig")
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise DataError(f"the held-out file {path} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"the held-out file {path} is not UTF-8: {error.reason} at byte {error.start}") from error


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where} is no JSON: {str(error)[:100]}", hint="a held-out file is read whole or not at all"
        ) from error


def _strings(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
