"""Reader worker: the process that reads spans for a pool, `python -m bloomery.corpus.reader_worker`.

Tasks come as lines of JSON on stdin; what is read goes to stdout in frames (four bytes of length, then JSON): `begin`
(where the first record begins), `items` (documents, problems and drops, in order), `extracting` (a page is about to be
taken apart), and `done`, `broken`, `extra` or `bug`. Before `extracting` everything that was found is sent, so that
whoever reads knows which page a worker died of. This module does not know how spans are joined.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from bloomery.core.config import from_dict
from bloomery.core.errors import MissingExtraError
from bloomery.corpus.config import CurateConfig
from bloomery.corpus.document import Document
from bloomery.corpus.guard import Guard, Page, Refused, contained
from bloomery.corpus.problems import Problems
from bloomery.corpus.reader_process import LENGTH
from bloomery.corpus.readers import read_file
from bloomery.corpus.span import Span
from bloomery.corpus.streams import BrokenStream

_BATCH_ITEMS, _BATCH_CHARACTERS = 256, 256 * 1024
# What a worker may take beyond what it has when it begins; pages are limited in bytes, what is made of them is not.
_MEMORY_BYTES = 3 * 1024**3


class _Output:
    """Frames to the parent; `muted` holds back what it has had before."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.items, self.characters, self.muted = stream, [], 0, False
        self.span: Span | None = None

    def item(self, *item: Any, characters: int = 0) -> None:
        if self.muted:
            return
        self.items.append(item)
        self.characters += characters
        if len(self.items) >= _BATCH_ITEMS or self.characters >= _BATCH_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        if self.items:
            self.send("items", self.items)
            self.items, self.characters = [], 0

    def send(self, kind: str, *values: Any) -> None:
        if self.span is not None:
            span, self.span = self.span, None
            self.send("begin", span.begin)
        data = json.dumps([kind, *values], ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        self.stream.write(LENGTH.pack(len(data)) + data)
        self.stream.flush()


class _Recorder(Problems):
    """Problems that are sent to the parent, which counts them."""

    def __init__(self, output: _Output) -> None:
        super().__init__()
        self.output = output

    def add(self, reason: str, where: str, detail: str = "") -> None:
        self.output.item("p", reason, where, detail[:1000])

    def drop(self, reason: str, where: str, detail: str = "") -> None:
        self.output.item("x", reason, where, detail[:1000])


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


def work(task: dict[str, Any], output: _Output) -> None:
    """Read one span and send what is in it."""
    config = from_dict(CurateConfig, task["config"])
    span = Span(**task["span"])
    guard = LimitedGuard(output, config.extract_seconds, task["resume"], task["refused"])
    output.span = span
    output.muted = output.muted or task.get("again", False)
    try:
        problems = _Recorder(output)
        for document in read_file(
            Path(task["path"]), config, problems, kind=task["kind"], metadata=task["metadata"], span=span, guard=guard
        ):
            _send_document(output, document)
        output.flush()
        output.send("done", span.begin, span.end)
    except BrokenStream as error:
        output.flush()
        output.send("broken", error.reason, error.detail)
    except MissingExtraError as error:
        output.flush()
        output.send("extra", error.message, error.hint)
    except Exception as error:  # a bug of ours, told with its place
        output.flush()
        last = traceback.extract_tb(error.__traceback__)[-1]
        output.send("bug", f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})")


def _send_document(output: _Output, document: Document) -> None:
    characters = len(document.text) + 200
    output.item("d", document.id, document.text, document.source, document.metadata, characters=characters)


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
