"""Building: documents into an index: cut, embedded, kept; what has not changed since is left alone.

    sources -> documents -> chunks -> vectors -> one commit a batch

A run that is killed goes on with what was not committed yet. Documents that a source no longer holds are deleted when
all of it has been read. This module does not know how an index is kept or searched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bloomery.core.config import to_dict
from bloomery.core.errors import ConfigError, DataError
from bloomery.core.quantity import Quantity
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.corpus.config import CurateConfig
from bloomery.corpus.document import Document
from bloomery.corpus.problems import Problems
from bloomery.corpus.python_docs import NAME
from bloomery.corpus.record import Record
from bloomery.corpus.shards import read_documents
from bloomery.corpus.sources import read_sources, source_files
from bloomery.corpus.split import SPLITS
from bloomery.energy import open_meter
from bloomery.retrieve.cutting.cut import chunk_id, cut
from bloomery.retrieve.cutting.ruler import Ruler, ruler_of
from bloomery.retrieve.embedding.embedder import Embedder
from bloomery.retrieve.embedding.opening import open_embedder
from bloomery.retrieve.naming import document_id, text_digest, title_of, with_title
from bloomery.retrieve.opening import server_index
from bloomery.retrieve.places import index_folder, unmake_index
from bloomery.retrieve.store.config import IndexConfig, SearchConfig, kept_config
from bloomery.retrieve.store.qdrant_writer import QdrantWriter
from bloomery.retrieve.store.renewal import Renewal
from bloomery.retrieve.store.schema import FILE, NewChunk, NewDocument
from bloomery.retrieve.store.writer import Writer
from bloomery.tokenizer import Tokenizer

STAGE = "index"
_BATCH_CHUNKS, _BATCH_DOCUMENTS, _BATCH_CHARACTERS = 512, 2048, 8 * 1024 * 1024
_GIVEN = "given"
"""The origin of documents that a caller hands over."""
Source = str | Path
Sources = Source | Sequence[Source] | Iterable[Document]


@dataclass(kw_only=True)
class IndexReport:
    """What one run did, in documents."""

    index: str = ""
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    described: int = 0
    """Of the unchanged ones, those whose metadata or place are others now."""
    deleted: int = 0
    chunks: int = 0
    """Cut, and embedded where the index has an embedder, in this run."""
    problems: dict[str, int] = field(default_factory=dict)
    """What was wrong in sources, by reason."""
    listed: list[dict[str, Any]] = field(default_factory=list)
    """The first of them."""
    seconds: float = 0.0
    energy_joules: Quantity = field(default_factory=Quantity.unknown)

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "energy_joules": self.energy_joules.to_dict()}


def index(
    sources: Sources,
    *,
    into: str | Path,
    config: IndexConfig | None = None,
    reading: CurateConfig | None = None,
    embedder: Embedder | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> IndexReport:
    """Put documents into an index, made where there is none: files, folders, globs, a corpus artifact, or `Document`s.

    `config` None takes the index's own, or the defaults; it is fixed when the index is made. `reading` says how
    sources are read (fields, encoding, extraction). `embedder` stands in for the one that the config names. Of what a
    source held before and does not hold now, documents are deleted; documents that are handed over delete none.
    `fresh` makes the index anew, and leaves the old one alone until the new one is whole; a first one that fails before
    anything is in it leaves nothing. ConfigError for sources that are not there and a config that is not the index's;
    DataError for a source with problems and not one document, before any is deleted; ArtifactError while another
    process writes to it.
    """
    home = as_workspace(workspace)
    named, given = _divided(sources)
    if fresh:
        _must_be_there(named, home)
    began = time.perf_counter()
    with ExitStack() as stack:
        writer, where, finish = stack.enter_context(_opened_writer(into, config, home, fresh))
        inputs = StageInputs(stage=STAGE, config={"index": where, **to_dict(writer.config)}, fingerprint=str(named))
        run = stack.enter_context(Run(home, inputs, meter=open_meter()))
        if embedder is None and writer.config.embedder:
            embedder = stack.enter_context(
                closing(open_embedder(writer.config.embedder, writer.config.embedder_model, home))
            )
        if embedder is not None and writer.config.embedder:
            writer.use_embedder(embedder.name)
        builder = _Builder(writer, embedder, run, _ruler(writer.config, home))
        for source in named:
            builder.take(*_documents(source, reading, writer.config, home))
        if given is not None:
            builder.take(_GIVEN, given, None)
        builder.flush()
        writer.grow_graph(SearchConfig().exact_rows)
        finish()
        report = builder.report
        report.seconds, report.energy_joules = time.perf_counter() - began, run.energy_joules
        counts = {name: getattr(report, name) for name in ("added", "changed", "unchanged", "deleted", "chunks")}
        run.metrics(counts)
    report.index = where
    return report


def known_config(into: str | Path, workspace: Workspace) -> IndexConfig | None:
    """What an index was made with, in a folder or on a server; None where there is none yet."""
    server = server_index(into)
    if server is None:
        return kept_config(index_folder(into, workspace))
    with closing(server):
        return server.kept_config()


@contextmanager
def _opened_writer(
    into: str | Path, config: IndexConfig | None, workspace: Workspace, fresh: bool
) -> Iterator[tuple[Writer | QdrantWriter, str, Callable[[], None]]]:
    """What writes to the index; where that is, for people; what is to be called when all is in it."""
    server = server_index(into)
    if server is not None:
        with closing(server):
            if fresh:
                server.drop()
            yield QdrantWriter(server, config), str(into), lambda: None
        return
    folder = index_folder(into, workspace)
    there = (folder / FILE).is_file()
    if fresh and there:
        with closing(Renewal(folder, config or IndexConfig())) as renewal:
            yield renewal.writer, str(folder), renewal.finish
        return
    with Writer(folder, config or kept_config(folder) or IndexConfig()) as writer:
        try:
            yield writer, str(folder), lambda: None
        except BaseException:
            if not there and writer.is_empty:
                unmake_index(folder)
            raise


def _ruler(config: IndexConfig, workspace: Workspace) -> Ruler:
    name = config.cut.tokenizer
    if not name:
        return ruler_of(None)
    folder = Path(name).expanduser()
    return ruler_of(Tokenizer.load(folder if folder.is_dir() else workspace.find(name).path))


def _divided(sources: Sources) -> tuple[list[str], Iterable[Document] | None]:
    """Sources by name, or documents that are handed over. ConfigError for both at once, and for neither."""
    if isinstance(sources, str | Path):
        return [str(sources)], None
    if isinstance(sources, Sequence):
        if not sources:
            raise ConfigError("nothing to index", hint="give files, folders, globs or documents")
        if all(isinstance(one, str | Path) for one in sources):
            return [str(one) for one in sources], None
        if not all(isinstance(one, Document) for one in sources):
            raise ConfigError("sources are names, or documents, not both", hint="call it twice")
    return [], sources  # type: ignore[return-value]


def _must_be_there(named: Iterable[str], workspace: Workspace) -> None:
    """ConfigError for a source that is not there, so that no index is removed for a name that is misspelt."""
    for source in named:
        if source != NAME and not workspace.matching(source, kind="corpus"):
            next(iter(source_files(source)))


class _Noticed(Problems):
    """Problems that also tell which files could not be read at all: what they held before is kept."""

    def __init__(self, strict: bool) -> None:
        super().__init__(strict=strict)
        self.broken: set[str] = set()

    def tell(self, record: Record) -> None:
        if record.kind == "broken":
            self.broken.add(record.source)
        super().tell(record)


def _documents(
    source: str, reading: CurateConfig | None, config: IndexConfig, workspace: Workspace
) -> tuple[str, Iterator[Document], _Noticed]:
    """(origin, documents, problems) of a source."""
    reading = reading or CurateConfig()
    problems = _Noticed(reading.strict)
    if not Path(source).expanduser().exists() and workspace.matching(source, kind="corpus"):
        corpus = workspace.find(source, kind="corpus")
        return corpus.id, (one for split in SPLITS for one in read_documents(corpus, split)), problems
    wanted = [name for name in (config.id_field, config.title_field) if name]
    fields = tuple(dict.fromkeys([*reading.metadata_fields, *wanted]))
    extract = "headings" if reading.extract == "fast" else reading.extract  # chunks have the titles above them
    reading = replace(reading, sources=(source,), metadata_fields=fields, extract=extract)
    # A folder is the same source from wherever it is named; prefixes (code:, hf:) stay.
    origin = source if source == NAME or ":" in source.split("/")[0] else str(Path(source).expanduser().absolute())
    return origin, read_sources(reading, problems), problems


class _Builder:
    """Takes documents, and writes those that are new or changed in batches."""

    def __init__(self, writer: Writer | QdrantWriter, embedder: Embedder | None, run: Run, ruler: Ruler) -> None:
        self.report = IndexReport()
        self._writer, self._embedder, self._run, self._ruler = writer, embedder, run, ruler
        self._batch: dict[str, NewDocument] = {}
        self._chunks, self._characters = 0, 0
        self._seen: set[str] = set()

    def take(self, origin: str, documents: Iterable[Document], problems: _Noticed | None) -> None:
        """All documents of a source. With `problems`, what it held before and does not hold now is deleted."""
        before = self._writer.known(origin)
        found = False
        for document in documents:
            found = True
            self._one(origin, document)
        self.flush()
        if problems is None:
            return
        if problems.total and not found:  # a field that is misspelt must not empty an index
            kept = f"; what the index holds of it stays ({len(before):,} documents)" if before else ""
            raise DataError(f"no document could be read from {origin}{kept}", hint=problems.first())
        sources = self._writer.sources(origin)
        gone = [one for one in before if one not in self._seen and sources.get(one) not in problems.broken]
        self.report.deleted += self._writer.remove(gone)
        for reason, times in problems.counts.items():
            self.report.problems[reason] = self.report.problems.get(reason, 0) + times
        self.report.listed += problems.listed
        if problems.total:
            self._run.note(f"{problems.total:,} problems in {origin}; the first: {problems.first()}")

    def _one(self, origin: str, document: Document) -> None:
        config = self._writer.config
        name = document_id(document, config.id_field)
        if name in self._seen:
            self.report.problems["again"] = self.report.problems.get("again", 0) + 1
            return
        self._seen.add(name)
        title = title_of(document, config.title_field)
        digest = text_digest(document, title)
        known = self._writer.digest_of(name)
        if known is not None and known[0] == digest:
            self.report.unchanged += 1
            if self._writer.describe(name, document.source, document.metadata, origin):
                self.report.described += 1
            return
        chunks = []
        for start, end, heading in cut(document, config.cut, self._ruler):
            text = document.text[start:end]
            heading = with_title(title, heading)
            identity = chunk_id(name, start, end, f"{heading}\0{text}")
            chunks.append(NewChunk(id=identity, start=start, end=end, heading=heading, text=text))
        if known is None:
            self.report.added += 1
        else:
            self.report.changed += 1
        self._batch[name] = NewDocument(
            id=name,
            origin=origin,
            source=document.source,
            digest=digest,
            metadata=document.metadata,
            text=document.text,
            chunks=chunks,
        )
        self._chunks += len(chunks)
        self._characters += len(document.text)
        full = self._chunks >= _BATCH_CHUNKS or len(self._batch) >= _BATCH_DOCUMENTS
        if full or self._characters >= _BATCH_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        """Embed and commit what has been gathered."""
        if not self._batch:
            return
        documents = list(self._batch.values())
        vectors = None
        if self._embedder is not None:
            prefix = self._writer.config.passage_prefix
            texts = [prefix + embedded_text(one) for document in documents for one in document.chunks]
            vectors = self._embedder.embed(texts)
        self._writer.put(documents, vectors)
        self.report.chunks += self._chunks
        self._batch, self._chunks, self._characters = {}, 0, 0
        report = self.report
        live = {"added": report.added, "changed": report.changed, "unchanged": report.unchanged}
        self._run.progress(report.chunks, None, unit="chunks", **live)


def embedded_text(chunk: NewChunk) -> str:
    """What of a chunk is embedded: its headings, and its text."""
    return f"{chunk.heading}\n{chunk.text}" if chunk.heading else chunk.text
