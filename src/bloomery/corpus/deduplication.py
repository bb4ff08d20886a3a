"""Deduplication: what a corpus holds twice is taken out, kind by kind, each with its own reason.

    evaluation texts -> URLs -> near duplicates -> paragraphs -> lines -> repeated runs of words

Exact copies of documents are gone before (dedup.py). A kind that is off costs nothing; near duplicates and repeated
runs wait on disk for the last document. Whole documents go first, so that a near copy is dropped as such, with the
document that it is a copy of, and not cut to shreds. This module does not know how any kind is found, nor how a corpus
is divided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

from bloomery.corpus.dedup import FirstSeen
from bloomery.corpus.dedup_config import DedupConfig
from bloomery.corpus.document import Document, readable, text_digest
from bloomery.corpus.evaluation_texts import EvaluationTexts
from bloomery.corpus.near import NearDuplicates, Tell
from bloomery.corpus.near_crew import Crew
from bloomery.corpus.removed_texts import Cut, RemovedTexts
from bloomery.corpus.repeats import RepeatIndex, spans_of
from bloomery.corpus.segments import RepeatedSegments
from bloomery.corpus.staged import StagedDocuments
from bloomery.corpus.url import page_of

Drop = Callable[[Document, str, str, Mapping[str, Any]], None]
First = Callable[[Document], bool]
LINE, PARAGRAPH, SUBSTRING = "repeated_line", "repeated_paragraph", "repeated_substring"


class Deduplication:
    """`kept(documents, drop, first_time)` gives what is left; `report()` says what was taken out of all of them.

    `first_time(document)` says whether what is left of a text that was cut is no other document's; it tells of those
    that are itself.
    """

    def __init__(
        self,
        config: DedupConfig,
        *,
        folder: Path,
        scratch: Path,
        workers: int = 1,
        crew: Crew | None = None,
        tell: Tell = lambda done, total, unit: None,
    ) -> None:
        """`folder` gets the list of what was cut; evaluation files are read now, and their errors raised.

        `crew` is who looks for near duplicates, by default `workers` processes of this machine; `tell` hears how far
        the work is that no document comes out of.
        """
        self.config, self._tell = config, tell
        self._scratch = scratch
        self._removed = RemovedTexts(folder)
        self._evaluation = EvaluationTexts(config, scratch / "evaluation") if config.evaluation else None
        near = {"scratch": scratch, "workers": workers, "crew": crew, "tell": tell}
        self._near = NearDuplicates(config, **near) if config.near else None
        self._urls = {"documents_without_url": 0, "dropped": 0}

    def kept(self, documents: Iterable[Document], drop: Drop, first_time: First) -> Iterator[Document]:
        config = self.config
        if self._evaluation:
            documents = self._evaluation.kept(documents, drop)
        if config.urls:
            documents = self._of_new_urls(documents, drop)
        if self._near:
            documents = self._near.kept(documents, drop)
        if config.paragraphs:
            documents = self._without_repeated(documents, drop, first_time, "paragraph")
        if config.lines:
            documents = self._without_repeated(documents, drop, first_time, "line")
        if config.substring_words:
            documents = self._without_runs(documents, drop, first_time)
        yield from documents

    def _of_new_urls(self, documents: Iterable[Document], drop: Drop) -> Iterator[Document]:
        with FirstSeen(self._scratch / "urls.sqlite") as seen:
            for document in documents:
                url = document.metadata.get(self.config.url_field)
                page = readable(page_of(url)) if isinstance(url, str) else ""
                if not page:
                    self._urls["documents_without_url"] += 1
                elif first := seen.first(text_digest(page), document.id):
                    self._urls["dropped"] += 1
                    drop(document, "same_url", f"{page}, as {first}", {"kept": first})
                    continue
                yield document

    def _without_repeated(
        self, documents: Iterable[Document], drop: Drop, first_time: First, kind: str
    ) -> Iterator[Document]:
        path = self._scratch / f"{kind}s.sqlite"
        reason = LINE if kind == "line" else PARAGRAPH
        with closing(RepeatedSegments(path, kind, min_characters=self.config.min_characters)) as segments:
            for document in documents:
                cuts = segments.cuts(document.text, document.id)
                yield from self._cut(document, cuts, reason, drop, first_time)

    def _without_runs(self, documents: Iterable[Document], drop: Drop, first_time: First) -> Iterator[Document]:
        size, scratch = self.config.substring_words, self._scratch
        with (
            closing(StagedDocuments(scratch / "runs")) as staged,
            closing(RepeatIndex(scratch / "windows", size)) as index,
        ):
            for document in staged.stage(documents):
                index.add(document.text)
            index.seal()
            count = staged.starts[-1]
            for done, document in enumerate(staged.read(), 1):
                self._tell(done, count, "documents searched for runs")
                runs = index.cuts()
                spans = spans_of(document.text, runs) if runs else []
                firsts = [staged.id_of(first) for _, _, first in runs]
                cuts = [Cut(*span, first) for span, first in zip(spans, firsts, strict=True)]
                yield from self._cut(document, cuts, SUBSTRING, drop, first_time)

    def _cut(
        self, document: Document, cuts: list[Cut], reason: str, drop: Drop, first_time: First
    ) -> Iterator[Document]:
        if not cuts:
            yield document
            return
        after = self._removed.cut(document, cuts, reason)
        if not after.text.strip():
            drop(document, f"{reason}s", f"nothing is left; the first stands in {cuts[0].first}", {})
        elif first_time(after):
            yield after

    def report(self) -> dict[str, Any]:
        """By kind, for those that were asked for."""
        config = self.config
        asked = {"paragraphs": config.paragraphs, "lines": config.lines, "substrings": bool(config.substring_words)}
        reasons = {"paragraphs": PARAGRAPH, "lines": LINE, "substrings": SUBSTRING}
        found: dict[str, Any] = {name: self._removed.report(reasons[name]) for name, yes in asked.items() if yes}
        if self._evaluation:
            found["evaluation"] = self._evaluation.report()
        if config.urls:
            found["urls"] = dict(self._urls)
        if self._near:
            found["near"] = self._near.told.report()
        return found

    def close(self) -> None:
        """Write what is left."""
        self._removed.close()
        if self._evaluation:
            self._evaluation.close()

    def __enter__(self) -> Deduplication:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.close()
