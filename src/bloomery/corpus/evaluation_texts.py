"""EvaluationTexts: documents that hold what an evaluation file holds go; a file that cannot be read is an error.

A document overlaps if it shares a run of 13 words with a text (GPT-3's measure; Brown et al. 2020, appendix C), if it
has a text of 8 to 12 words whole within it, or if it is, but for case and punctuation, a text of fewer words. Where a
script has no spaces each character is a word. This module does not know formats of files.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bloomery.core.errors import DataError
from bloomery.corpus.decontaminate import HeldOutRuns, RunHasher, first_shared, in_batches
from bloomery.corpus.dedup import FirstSeen
from bloomery.corpus.dedup_config import DedupConfig
from bloomery.corpus.document import Document, readable
from bloomery.corpus.evaluation_files import evaluation_files, evaluation_texts
from bloomery.corpus.minhash import words_of

REASON = "overlaps_evaluation"
Drop = Callable[[Document, str, str, Mapping[str, Any]], None]
_WITHIN_WORDS = 8
_LISTED = 10


class EvaluationTexts:
    """`kept(documents, drop)` gives those that overlap with none."""

    def __init__(self, config: DedupConfig, scratch: Path) -> None:
        """Reads all files. ConfigError for a name that names none, DataError for a file that cannot be read whole or
        holds no text."""
        self._words = config.evaluation_words
        self._scratch = scratch
        scratch.mkdir(parents=True, exist_ok=True)
        self._hashers: dict[int, RunHasher] = {}
        self._runs: dict[int, HeldOutRuns] = {}
        self._files: dict[str, dict[int, HeldOutRuns]] = {}
        self._short = FirstSeen(scratch / "short.sqlite")
        self._texts: dict[str, dict[str, int]] = {}
        self._dropped: Counter[str] = Counter()
        self._shared: Counter[str] = Counter()
        for number, path in enumerate(evaluation_files(config.evaluation)):
            self._read(number, path)
        for runs in self._runs.values():
            runs.seal()

    def _read(self, number: int, path: Path) -> None:
        name = readable(str(path))
        own = self._files.setdefault(name, {})
        count = short = 0
        for text in evaluation_texts(path):
            words = words_of(readable(text))
            if not words:
                continue
            count += 1
            length = min(self._words, len(words))
            if length < min(_WITHIN_WORDS, self._words):
                self._short.first(_digest(words), name)
                short += 1
                continue
            if length not in self._hashers:
                self._hashers[length] = RunHasher(length, halves=False)
                self._runs[length] = HeldOutRuns(self._scratch / f"all-{length}", self._hashers[length])
            if length not in own:
                own[length] = HeldOutRuns(self._scratch / f"file-{number}-{length}", self._hashers[length])
            for runs in (self._runs[length], own[length]):
                runs.add(words)
        if not count:
            raise DataError(
                f"the evaluation file {name} holds no text",
                hint="is it the right file? take it out of dedup.evaluation if it is",
            )
        for runs in own.values():
            runs.seal()
        self._texts[name] = {"texts": count, "of_few_words": short}

    def kept(self, documents: Iterable[Document], drop: Drop) -> Iterator[Document]:
        """`drop(document, reason, detail, more)` is told of the others: the file, and the words they share."""
        for batch in in_batches(documents):
            words = [words_of(document.text) for document in batch]
            found = [self._whole(each) for each in words]
            for length, hasher in sorted(self._hashers.items()):
                shared = first_shared(words, hasher, {REASON: self._runs[length]})
                for place, (reason, run) in enumerate(shared):
                    if reason:  # that of the longest run is told
                        found[place] = (self._holder(run, length), run)
            for document, (name, run) in zip(batch, found, strict=True):
                if name:
                    self._drop(document, name, run, drop)
                else:
                    yield document

    def _whole(self, words: list[str]) -> tuple[str, str]:
        """(file, text) if the words are a short text, each "" if not."""
        if not 0 < len(words) < _WITHIN_WORDS:
            return "", ""
        return self._short.find(_digest(words)), " ".join(words)

    def _holder(self, run: str, length: int) -> str:
        """The first file that has a run of words."""
        hashes = self._hashers[length].hashes(run.split())
        return next(name for name, own in self._files.items() if length in own and own[length].contains(hashes).any())

    def _drop(self, document: Document, name: str, shared: str, drop: Drop) -> None:
        self._dropped[name] += 1
        if shared in self._shared or len(self._shared) < 100_000:
            self._shared[shared] += 1
        drop(document, REASON, f"shares with {name}: {shared}", {"file": name})

    def report(self) -> dict[str, Any]:
        """By file its texts, those that only whole documents are compared with, and what they cost; and what most
        documents were dropped for: words that many share may be a licence and no question."""
        return {
            "files": {name: {**n, "documents_dropped": self._dropped[name]} for name, n in self._texts.items()},
            "dropped": self._dropped.total(),
            "most_shared": [{"words": words, "documents": n} for words, n in self._shared.most_common(_LISTED)],
        }

    def close(self) -> None:
        self._short.close()


def _digest(words: list[str]) -> bytes:
    return hashlib.blake2b(" ".join(words).encode(), digest_size=16).digest()
