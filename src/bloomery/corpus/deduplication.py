"""Deduplication: what a corpus holds twice is taken out, kind by kind, each with its own reason.

    evaluation texts -> URLs -> lines and paragraphs -> near duplicates -> repeated runs of words

Exact copies of documents are gone before (dedup.py). A kind that is off costs nothing; near duplicates and repeated
runs wait on disk for the last document. This module does not know how any kind is found, nor how a corpus is divided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from bloomery.corpus.dedup_config import DedupConfig
from bloomery.corpus.document import Document
from bloomery.corpus.near import NearDuplicates
from bloomery.corpus.near_crew import Crew

Drop = Callable[[Document, str, str, Mapping[str, Any]], None]


class Deduplication:
    """`kept(documents, drop, first_time)` gives what is left; `report()` says what was taken out, when all have gone by.

    `first_time(document)` says whether what is left of a text that was cut is neither blank nor another document's; it
    tells of those that are itself.
    """

    def __init__(
        self, config: DedupConfig, *, folder: Path, scratch: Path, workers: int = 1, crew: Crew | None = None
    ) -> None:
        """`crew` does what can be done at once, instead of `workers` processes."""
        self.config = config
        self._folder, self._scratch, self._workers, self._crew = folder, scratch, workers, crew
        self._near: NearDuplicates | None = None

    def kept(
        self, documents: Iterable[Document], drop: Drop, first_time: Callable[[Document], bool]
    ) -> Iterator[Document]:
        if self.config.near:
            self._near = NearDuplicates(self.config, scratch=self._scratch, workers=self._workers, crew=self._crew)
            documents = self._near.kept(documents, drop)
        yield from documents

    def report(self) -> dict[str, Any]:
        return {"near": self._near.told.report()} if self._near else {}

    def close(self) -> None:
        pass

    def __enter__(self) -> Deduplication:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.close()
