"""Reader pool: processes that read spans of files at once, and what they read in order, as if one had read it all.

Every span's worker says where its first record begins and where the next span should; a span that does not begin where
the one before ended is read again from there. So the documents are those of one process for any number of workers.
What waits for its turn is bounded; a page of which a worker died or which took too long is refused, and its span goes
on behind it. A worker that dies otherwise is an error that names its file and offset. This module does not know
formats, only how their files divide (`reading_plan`).
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import starmap
from pathlib import Path
from typing import Any

from bloomery.core.config import to_dict
from bloomery.core.errors import BloomeryError, DataError, MissingExtraError
from bloomery.corpus.config import CurateConfig
from bloomery.corpus.document import Document
from bloomery.corpus.problems import Problems
from bloomery.corpus.reader_process import ReaderProcess
from bloomery.corpus.reading_log import Place, ReadingLog
from bloomery.corpus.reading_plan import FilePlan, spans_of
from bloomery.corpus.record import Record
from bloomery.corpus.source_file import SourceFile
from bloomery.corpus.span import Span

# Spans that are read ahead of the one whose documents are wanted, for each worker, and bytes that they may hold.
_AHEAD_SPANS = 2
_AHEAD_BYTES = 128 * 1024 * 1024
# Seconds of the clock after which it is looked whether a page still uses the processor, whose time is limited apart.
_PATIENCE = 120.0
_READ_BYTES = 1024 * 1024


@dataclass(eq=False)
class _Job:
    """A span on its way: who reads it, what came of it, and where its worker stands."""

    file: SourceFile
    plan: FilePlan
    span: Span
    process: ReaderProcess | None = None
    frames: deque[bytes] = field(default_factory=deque)
    began: bool = False
    begin: int | None = None
    page: tuple[str, int] | None = None  # being taken apart: where, and its number in the span
    paged: bool = False
    page_since: float = 0.0
    page_cpu: float = 0.0
    died_at: int = -1
    resume: int = 0
    refused: list[str] | None = None
    skip: int = 0  # items that were had before
    again: bool = False  # what comes before the page at which to resume was had before
    failure: BloomeryError | None = None
    finished: bool = False

    def go_on(self, place: Place) -> None:
        """So much of it was told before this process began."""
        if place.at is not None:
            self.span, self.skip, self.begin = Span(**place.at), place.items, place.expected
            self.resume, self.again = place.page or 0, place.page is not None

    @property
    def place(self) -> str:
        return self.page[0] if self.page else f"{self.file.path}, offset {self.begin or self.span.start}"


class ReaderPool:
    """See the module. Use it as a context manager: leaving it ends its processes."""

    def __init__(self, config: CurateConfig, workers: int, *, tables: Path | None = None) -> None:
        """With a folder of `tables` the workers also apply the config's stages (`batch_stages`) to what they read."""
        self.config, self.workers = config, workers
        self._settings, self._tables = to_dict(config), str(tables) if tables else ""
        self._idle: list[ReaderProcess] = []
        self._all: set[ReaderProcess] = set()
        self._held = 0

    def __enter__(self) -> ReaderPool:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._all:
            process.end()
        self._all.clear()
        self._idle.clear()

    def read(self, files: Iterable[SourceFile], problems: Problems) -> Iterator[Document]:
        """The documents of the files in order; `problems` is told of everything else."""
        for batch in self.batches(files):
            for record in batch:
                if record.kind == "document":
                    yield record.document
                else:
                    problems.tell(record)

    def batches(self, files: Iterable[SourceFile], log: ReadingLog | None = None) -> Iterator[list[Record]]:
        """The records of the files in order. What a log holds comes first, and is not read again."""
        place = Place()
        if log is not None:
            for _, rows, _ in log.replay():
                yield [Record(*row) for row in rows]
            if log.ended:
                return
            place = log.place
        jobs = starmap(_Job, spans_of(files, self.config))
        if place != Place():
            jobs = self._from(jobs, place)
        waiting: deque[_Job] = deque()
        while True:
            while len(waiting) <= self.workers * _AHEAD_SPANS and (job := next(jobs, None)) is not None:
                waiting.append(job)
            if not waiting:
                break
            job = waiting[0]
            if job.span.start == 0:
                place = replace(place, expected=0)
            if not job.span.wanted(place.expected):
                self._abandon(job)
                waiting.popleft()
                place = Place(place.span + 1, place.expected)
                continue
            self._give_work(waiting)
            if not job.began:
                self._await(waiting)
                continue
            if job.begin != place.expected and not job.span.sure:
                self._again(job, place.expected or 0)
                continue
            expected = yield from self._told(job, waiting, place, log)
            place = Place(place.span + 1, expected)
            if log is not None:
                log.settle(place)
            waiting.popleft()
        if log is not None:
            log.settle(place, ended=True)

    def span(self, file: SourceFile, span: Span, *, place: Place | None = None) -> Iterator[list[Any]]:
        """One span alone, or what of it is behind a place, as frames: ["begin", where its first record begins],
        ["items", records, how many items so far] in order, and at last ["done", begin, where the next span begins]."""
        job = _Job(file, FilePlan(file, self.config), span)
        if place is not None:
            job.go_on(place)
        waiting = deque([job])
        self._give_work(waiting)
        while not job.began:
            self._await(waiting)
        yield ["begin", job.begin]
        for data in self._frames(job, waiting):
            frame = json.loads(data)
            if frame[0] == "items":
                yield frame
            elif frame[0] == "broken":
                yield ["items", [_broken(file, *frame[1:]).to_list()], 0]
                frame = ["done", job.begin, None]
            if frame[0] == "done":
                yield frame
                return

    @staticmethod
    def _from(jobs: Iterator[_Job], place: Place) -> Iterator[_Job]:
        """The jobs from a place on."""
        for number, job in enumerate(jobs):
            if number == place.span:
                job.go_on(place)
            if number >= place.span:
                yield job

    def _told(self, job: _Job, waiting: deque[_Job], place: Place, log: ReadingLog | None) -> Any:
        """Yields the head's records as they come; returns where it ended, None if its file did."""
        for frame in self._frames(job, waiting):
            kind = _kind(frame)
            if kind == b"items":
                _, rows, count = json.loads(frame)
                if log is not None:
                    log.add(frame)
                yield [Record(*row) for row in rows]
                if log is not None and not job.paged:
                    log.settle(place.within(job.span.asked(), items=count))
            elif kind == b"extracting":
                job.paged = True
                if log is not None:
                    log.settle(place.within(job.span.asked(), page=json.loads(frame)[2]))
            elif kind == b"done":
                return json.loads(frame)[2]
            else:
                record = _broken(job.file, *json.loads(frame)[1:])
                yield [record]
                if log is not None:
                    log.add(json.dumps(["items", [record.to_list()], 0]).encode())
                return None
        return None

    def _frames(self, job: _Job, waiting: deque[_Job]) -> Iterator[bytes]:
        """What the head's worker says, as it comes."""
        while True:
            while not job.frames:
                if job.failure is not None:
                    raise job.failure
                self._give_work(waiting)
                self._await(waiting)
            frame = job.frames.popleft()
            self._held -= len(frame)
            yield frame

    # Processes

    def _give_work(self, waiting: deque[_Job]) -> None:
        for job in waiting:
            if job.process is not None or job.finished or job.failure is not None:
                continue
            if not self._idle:
                # The head always gets one: the others may be waiting for it to be read before they can say more.
                if len(self._all) >= self.workers and job is not waiting[0]:
                    return
                process = ReaderProcess()
                self._all.add(process)
                self._idle.append(process)
            job.process = self._idle.pop()
            task = {"path": os.fspath(job.file.path), "kind": job.file.kind, "config": self._settings}
            task |= {"metadata": job.file.metadata, "tables": self._tables, "skip": job.skip, "span": job.span.asked()}
            again = job.again or job.died_at >= 0 or job.refused is not None  # before its page all has been told
            job.process.give({**task, "resume": job.resume, "refused": job.refused, "again": again})

    def _await(self, waiting: deque[_Job]) -> None:
        """Read what workers have to say; while much is held, only of the one whose turn it is."""
        running = [job for job in waiting if job.process is not None]
        if self._held > _AHEAD_BYTES:
            running = [job for job in running if job is waiting[0]]
        ready, _, _ = select.select([job.process for job in running if job.process], [], [], 1.0)
        for job in running:
            process = job.process
            if process in ready and process is not None:
                for frame in process.frames(_READ_BYTES):
                    self._take(job, frame)
                if process.ended and job.process is process:
                    self._died(job, process)
            elif process is not None and job.page is not None and time.monotonic() - job.page_since > _PATIENCE:
                self._look_after(job, process)

    def _look_after(self, job: _Job, process: ReaderProcess) -> None:
        """A page that has kept a process for long: it may wait for a busy machine, but not stand still."""
        spent, job.page_since = process.cpu_seconds(), time.monotonic()
        if spent > job.page_cpu:
            job.page_cpu = spent
            return
        self._discard(process)
        self._refuse_page(job, ["extraction_timeout", f"it stood still for {_PATIENCE:.0f} seconds"])

    def _take(self, job: _Job, data: bytes) -> None:
        kind = _kind(data)
        frame: list[Any] = [] if kind == b"items" else json.loads(data)
        if kind == b"begin":
            job.began, job.begin = True, frame[1] if job.resume == 0 and job.refused is None else job.begin
            return
        if kind == b"extracting":
            job.page, job.page_since, job.page_cpu = (frame[1], frame[2]), time.monotonic(), 0.0
        else:
            job.page = None
        if kind in (b"done", b"broken", b"extra", b"bug"):
            if job.process is not None and len(self._all) > self.workers:
                self._discard(job.process)
            elif job.process is not None:
                self._idle.append(job.process)
            job.process, job.finished = None, True
        if kind == b"extra":
            job.failure = MissingExtraError.__new__(MissingExtraError)
            BloomeryError.__init__(job.failure, frame[1], hint=frame[2])
        elif kind == b"bug":
            job.failure = DataError(f"reading {job.place} failed: {frame[1]}", hint="please report this")
        else:
            job.frames.append(data)
            self._held += len(data)

    def _died(self, job: _Job, process: ReaderProcess) -> None:
        code, said = process.code(), process.last_words()
        self._discard(process)
        job.process = None
        if job.page is None:
            job.failure = DataError(
                f"the process that read {job.place} died ({_how(code)}{said})",
                hint="out of memory? fewer workers take less: --workers 1",
            )
            job.began = True
        elif code == -signal.SIGPROF:
            seconds = self.config.extract_seconds
            self._refuse_page(job, ["extraction_timeout", f"more than {seconds} seconds of processor time"])
        elif job.died_at == job.page[1]:
            self._refuse_page(job, ["extraction_crashed", f"the process died twice ({_how(code)})"])
        else:  # perhaps it was ended from outside: once more
            job.died_at, job.resume, job.refused, job.page = job.page[1], job.page[1], None, None

    def _refuse_page(self, job: _Job, reason: list[str]) -> None:
        assert job.page is not None
        job.resume, job.refused, job.process, job.page = job.page[1], reason, None, None

    def _again(self, job: _Job, start: int) -> None:
        """The span began where no record does: read it from where the one before it ended."""
        self._abandon(job)
        job.span = job.plan.from_place(start, job.span.stop)
        job.began, job.begin, job.page, job.finished = False, None, None, False
        job.resume, job.refused, job.died_at, job.failure = 0, None, -1, None
        job.skip, job.again = 0, False

    def _abandon(self, job: _Job) -> None:
        if job.process is not None:
            self._discard(job.process)
            job.process = None
        self._held -= sum(map(len, job.frames))
        job.frames.clear()

    def _discard(self, process: ReaderProcess) -> None:
        process.end()
        self._all.discard(process)


def _kind(frame: bytes) -> bytes:
    """The first word of a frame, without parsing it: `["items",...`."""
    return frame[2 : frame.index(b'"', 2)]


def _broken(file: SourceFile, reason: str, detail: str) -> Record:
    return Record.of_broken(str(file.path), reason, detail, named=file.named)


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
