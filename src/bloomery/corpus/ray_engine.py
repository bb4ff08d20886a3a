"""Ray engine: sources read and held to rules by Ray Data, with the documents, drops and order of local processes.

Each row of the data set is a span of a file. It is read in a task (pages still in a process of their own, so that one
that hangs or crashes costs itself alone), and what it gives goes through the same stages, one operator each, as Arrow
tables of records. Here they are joined in the order of the files and logged, so that a run that is ended goes on with
either engine. Every node must see the same files, the run's folder among them. Ray moves functions and tables between
its processes in its own way; nothing of that is read from a file. This module does not know formats.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import BloomeryError, DataError, MissingExtraError
from bloomery.core.ray_cluster import ray_cluster as core_ray_cluster
from bloomery.corpus.batch_stages import Batch, Stage, batch_stages
from bloomery.corpus.config import CurateConfig
from bloomery.corpus.reader_pool import ReaderPool
from bloomery.corpus.reading_log import Place, ReadingLog
from bloomery.corpus.reading_plan import FilePlan, spans_of
from bloomery.corpus.record import OBJECT_COLUMNS, TEXT_COLUMNS, Record
from bloomery.corpus.source_file import SourceFile
from bloomery.corpus.span import Span

# More blocks than this only cost Ray its bookkeeping; a block holds several spans then.
_MOST_BLOCKS = 4096
_BLOCK_BYTES = 32 * 1024 * 1024
Job = tuple[SourceFile, FilePlan, Span]


def ray_cluster(workers: int) -> AbstractContextManager[Any]:
    """The module ray, connected, in words of a corpus (see `core.ray_cluster`)."""
    return core_ray_cluster(
        workers,
        lost="what was read is kept: the same command goes on from there, with --engine local too",
        instead="--engine local makes the same corpus",
    )


@contextmanager
def _ordered(ray: Any) -> Iterator[None]:
    """Data sets in their order, without Ray's own display; the caller's settings are put back."""
    context = ray.data.DataContext.get_current()
    options = ray.data.ExecutionOptions()
    options.preserve_order = True
    ours = {
        "execution_options": options,
        "enable_progress_bars": False,
        "print_on_execution_start": False,
        "target_max_block_size": _BLOCK_BYTES,
    }
    before = {name: getattr(context, name) for name in ours}
    for name, value in ours.items():
        setattr(context, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)


class RayReader:
    """As a ReaderPool, `batches(files, log)` gives the records of files, in order, after the config's stages."""

    def __init__(self, config: CurateConfig, workers: int, *, tables: Path, stages: int = 0) -> None:
        """`stages` is how many stages the config asks for, `tables` the folder of their tables."""
        self.config, self.workers, self.tables, self.stages = config, workers, tables, stages
        self._settings = json.dumps(to_dict(config))

    def batches(self, files: Iterable[SourceFile], log: ReadingLog) -> Iterator[Batch]:
        """What the log holds comes first, and is not read again."""
        for _, rows, _ in log.replay():
            yield [Record(*row) for row in rows]
        if log.ended:
            return
        jobs = list(spans_of(files, self.config))
        if log.place.at is not None:
            yield from self._rest_of_span(jobs[log.place.span], log)
        first = log.place.span
        with ray_cluster(self.workers) as ray, _ordered(ray):
            for table in self._tables_of(ray, jobs, first):
                records = [Record.of_row(row) for row in table.to_pylist()]
                yield from self._joined(records, jobs, log)
        log.settle(log.place, ended=True)

    def _tables_of(self, ray: Any, jobs: list[Job], first: int) -> Iterator[Any]:
        """Arrow tables of records, span by span."""
        rows = [
            {
                "span": number,
                "file": json.dumps([os.fspath(file.path), file.named, file.kind, file.metadata]),
                "asked": json.dumps(span.asked()),
            }
            for number, (file, _, span) in enumerate(jobs)
            if number >= first
        ]
        if not rows:
            return
        data = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MOST_BLOCKS))
        data = data.map_batches(
            read_spans, batch_size=1, batch_format="pyarrow", fn_kwargs={"settings": self._settings}
        )
        for number in range(self.stages):
            how = {"number": number, "settings": self._settings, "tables": str(self.tables)}
            data = data.map_batches(one_stage, batch_size=None, batch_format="pyarrow", fn_kwargs=how)
        yield from data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)

    def _joined(self, records: list[Record], jobs: list[Job], log: ReadingLog) -> Iterator[Batch]:
        """The records that are wanted. A span that began where no record does is read again, here."""
        batch: Batch = []
        for record in records:
            if record.kind == "failed":
                raise _error(record)
            if record.kind not in ("begin", "done"):
                if self._taken == record.span:
                    batch.append(record)
                continue
            span, place = jobs[record.span][2], log.place
            if record.kind == "begin":
                expected = 0 if span.start == 0 else place.expected
                begin = (record.more or {})["begin"]
                self._taken = record.span if span.wanted(expected) and (begin == expected or span.sure) else -1
                log.place = replace(place, expected=expected)
                if span.wanted(expected) and self._taken < 0:
                    yield from self._again(jobs[record.span], log)
                elif self._taken < 0:
                    log.settle(Place(record.span + 1, expected))
            elif self._taken == record.span:
                yield from _logged(batch, log)
                batch = []
                log.settle(Place(record.span + 1, (record.more or {})["end"]))
        yield from _logged(batch, log)

    _taken = -1  # the number of the span whose records are told

    def _again(self, job: Job, log: ReadingLog) -> Iterator[Batch]:
        file, plan, span = job
        place = log.place
        yield from self._here(file, plan.from_place(place.expected or 0, span.stop), log, None)

    def _rest_of_span(self, job: Job, log: ReadingLog) -> Iterator[Batch]:
        yield from self._here(job[0], job[2], log, log.place)

    def _here(self, file: SourceFile, span: Span, log: ReadingLog, place: Place | None) -> Iterator[Batch]:
        """A span, or the rest of one, read on this machine."""
        number, end = log.place.span, None
        with ReaderPool(self.config, 1, tables=self.tables) as pool:
            for frame in pool.span(file, span, place=place):
                if frame[0] == "items":
                    yield from _logged([Record(*row) for row in frame[1]], log)
                elif frame[0] == "done":
                    end = frame[2]
        log.settle(Place(number + 1, end))


def _logged(batch: Batch, log: ReadingLog) -> Iterator[Batch]:
    if batch:
        yield batch
        rows = [record.to_list() for record in batch]
        data = json.dumps(["items", rows, 0], ensure_ascii=False, separators=(",", ":"))
        log.add(data.encode("utf-8", "replace"))


def _error(record: Record) -> BloomeryError:
    hint = (record.more or {})["hint"]
    if record.reason != "MissingExtraError":
        return DataError(record.detail, hint=hint)
    error = MissingExtraError.__new__(MissingExtraError)
    BloomeryError.__init__(error, record.detail, hint=hint)
    return error


# In Ray's processes


def _table(records: list[Record]) -> Any:
    import pyarrow as pa

    texts = [(name, pa.large_string()) for name in (*TEXT_COLUMNS, *OBJECT_COLUMNS)]
    schema = pa.schema([*texts, ("item", pa.int64()), ("span", pa.int64())])
    return pa.Table.from_pylist([record.row() for record in records], schema=schema)


@lru_cache(maxsize=1)
def _pool(settings: str) -> ReaderPool:
    return ReaderPool(from_dict(CurateConfig, json.loads(settings)), 1)


@lru_cache(maxsize=1)
def _stages(settings: str, tables: str) -> list[Stage]:
    return batch_stages(from_dict(CurateConfig, json.loads(settings)), Path(tables))


def read_spans(table: Any, settings: str) -> Iterator[Any]:
    """A table of spans -> tables of their records."""
    for row in table.to_pylist():
        path, named, kind, metadata = json.loads(row["file"])
        number, file = row["span"], SourceFile(Path(path), named=named, kind=kind, metadata=metadata)
        try:
            for kind, *values in _pool(settings).span(file, Span(**json.loads(row["asked"]))):
                if kind == "items":
                    yield _table([replace(Record(*each), span=number) for each in values[0]])
                elif kind == "begin":
                    yield _table([Record("begin", span=number, more={"begin": values[0]})])
                else:
                    yield _table([Record("done", span=number, more={"end": values[1]})])
        except BloomeryError as error:
            reason, more = type(error).__name__, {"hint": error.hint}
            yield _table([Record("failed", span=number, reason=reason, detail=error.message, more=more)])


def one_stage(table: Any, *, number: int, settings: str, tables: str) -> Any:
    """A table of records through one of the config's stages."""
    stage = _stages(settings, tables)[number]
    return _table(stage([Record.of_row(row) for row in table.to_pylist()]))
