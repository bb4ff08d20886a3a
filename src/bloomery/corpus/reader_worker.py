"""Reader worker: the process that reads spans for a pool, `python -m bloomery.corpus.reader_worker`.

Tasks come as lines of JSON on stdin; what is read goes to stdout in frames (four bytes of length, then JSON): `begin`
(where the first record begins), `items` (a batch of records, and how many items the reader has given with it),
`extracting` (a page is about to be taken apart), and `done`, `broken`, `extra` or `bug`. Before `extracting` everything
that was found is sent, so that whoever reads knows which page a worker died of. A task that names a folder of tables
has the stages of its config applied to each batch. This module does not know how spans are joined.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from bloomery.core.config import from_dict
from bloomery.core.errors import MissingExtraError
from bloomery.corpus.batch_stages import Stage, batch_stages, through
from bloomery.corpus.config import CurateConfig
from bloomery.corpus.guard import Guard, Page, Refused, contained
from bloomery.corpus.problems import RecordedProblems
from bloomery.corpus.reader_process import LENGTH
from bloomery.corpus.readers import read_file
from bloomery.corpus.record import Record
from bloomery.corpus.span import Span
from bloomery.corpus.streams import BrokenStream

_BATCH_ITEMS, _BATCH_CHARACTERS = 256, 256 * 1024
# What a worker may take beyond what it has when it begins; pages are limited in bytes, what is made of them is not.
_MEMORY_BYTES = 3 * 1024**3


class _Output:
    """Frames to the parent. The first `skip` items were had before; `muted` holds back others of which that is so."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.records, self.characters = stream, [], 0
        self.begin(None)

    def begin(
        self, span: Span | None, *, muted: bool = False, skip: int = 0, stages: list[Stage] | None = None
    ) -> None:
        """What follows is of this span."""
        self.span, self.muted, self.skip, self.stages = span, False, skip, stages or []
        self.count, self.records, self.characters = 0, [], 0

    def record(self, record: Record) -> None:
        self.count += 1
        if self.muted or self.count <= self.skip:
            return
        record.item = self.count
        self.records.append(record)
        self.characters += len(record.text) + 200
        if len(self.records) >= _BATCH_ITEMS or self.characters >= _BATCH_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        if self.records:
            batch = through(self.records, self.stages)
            self.send("items", [record.to_list() for record in batch], self.count)
            self.records, self.characters = [], 0

    def send(self, kind: str, *values: Any) -> None:
        if self.span is not None:
            span, self.span = self.span, None
            self.send("begin", span.begin)
        data = json.dumps([kind, *values], ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        self.stream.write(LENGTH.pack(len(data)) + data)
        self.stream.flush()


class LimitedGuard(Guard):
    """Says what it is about to do and limits the processor time: a page that takes longer ends the process.

    The first `resume` pages were had before and are passed over; `refused` is why the next one is not to be tried.
    """

    def __init__(self, output: _Output, seconds: int, resume: int, refused: list[str] | None) -> None:
        self.output, self.seconds, self.resume, self.refused = output, seconds, resume, refused
        self.pages = 0
        output.muted = resume > 0 or refused is not None

    def run(self, where: str, extract: Callable[[], Page]) -> Page:
        number = self.pages
        self.pages += 1
        if number < self.resume:
            raise Refused("had_before")
        self.output.muted = False
        self.output.flush()
        self.output.send("extracting", where, number)
        if number == self.resume and self.refused is not None:
            raise Refused(*self.refused, broken=True)
        signal.setitimer(signal.ITIMER_PROF, self.seconds)
        try:
            return contained(extract)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)


@lru_cache(maxsize=1)
def _stages(settings: str, tables: str) -> list[Stage]:
    return batch_stages(from_dict(CurateConfig, json.loads(settings)), Path(tables))


def work(task: dict[str, Any], output: _Output) -> None:
    """Read one span and send what is in it."""
    config = from_dict(CurateConfig, task["config"])
    span, file_metadata = Span(**task["span"]), task["metadata"]
    output.begin(span)
    try:
        stages = _stages(json.dumps(task["config"]), task["tables"]) if task.get("tables") else []
        output.begin(span, skip=task.get("skip", 0), stages=stages)
        guard = LimitedGuard(output, config.extract_seconds, task["resume"], task["refused"])
        output.muted = output.muted or task.get("again", False)
        problems = RecordedProblems(output.record)
        for document in read_file(
            Path(task["path"]), config, problems, kind=task["kind"], metadata=file_metadata, span=span, guard=guard
        ):
            if file_metadata:
                document = replace(document, metadata={**file_metadata, **document.metadata})
            output.record(Record.of(document))
        output.flush()
        output.send("done", span.begin, span.end)
    except BrokenStream as error:
        output.flush()
        output.send("broken", error.reason, error.detail)
    except MissingExtraError as error:
        output.flush()
        output.send("extra", error.message, error.hint)
    except Exception as error:  # a bug of ours, told with its place
        last = traceback.extract_tb(error.__traceback__)[-1]
        output.send("bug", f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})")


def _limit_memory() -> None:
    """Beyond what is mapped now; only Linux says what that is, and only it holds to the limit."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + _MEMORY_BYTES
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard < 0 else min(limit, hard), hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError, ImportError):
        return


def main() -> None:
    """Read tasks until stdin ends. What libraries print goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends us
    output = _Output(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    _limit_memory()
    try:
        for line in sys.stdin.buffer:
            work(json.loads(line), output)
    except BrokenPipeError:
        os._exit(0)  # nobody listens any more


if __name__ == "__main__":
    main()
