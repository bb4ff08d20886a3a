"""peek: the first documents of sources as they are read, and what was refused on the way. Nothing is kept.

This module does not know formats, nor how what it found is shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from bloomery.corpus.config import CurateConfig
from bloomery.corpus.document import Document
from bloomery.corpus.problems import Problems
from bloomery.corpus.sources import read_sources


@dataclass
class Peek:
    """`refused` counts records and lines that gave no document, or that had to be mended, by reason; `listed` names
    the first of them: reason, where, detail. `ended` says that the sources hold no other documents."""

    documents: list[Document] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    listed: list[dict[str, str]] = field(default_factory=list)
    ended: bool = False


def peek(
    sources: Sequence[str | Path], *, config: CurateConfig | None = None, documents: int = 3, listed: int = 100
) -> Peek:
    """The first documents of sources. Raises as `curate` does for sources that are not there or not to be read."""
    config = replace(config or CurateConfig(), sources=tuple(str(source) for source in sources))
    seen, named = Peek(), set()

    def refused(reason: str, where: str, detail: str) -> None:
        if (reason, where) in named:  # what is broken is both a problem and dropped
            return
        named.add((reason, where))
        seen.refused[reason] += 1
        if len(seen.listed) < listed:
            seen.listed.append({"reason": reason, "where": where, "detail": detail})

    problems = _Told(strict=config.strict, dropped=refused)
    with closing(read_sources(config, problems, workers=1)) as reading:
        for document in reading:
            seen.documents.append(document)
            if len(seen.documents) == documents:
                break
        else:
            seen.ended = True
    return seen


class _Told(Problems):
    """Problems that are told as they come, like what is dropped."""

    def add(self, reason: str, where: str, detail: str = "") -> None:
        super().add(reason, where, detail)
        self.drop(reason, where, detail)
