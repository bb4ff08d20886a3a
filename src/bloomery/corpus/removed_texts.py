"""RemovedTexts: what was cut out of documents that stayed, each piece with its reason, in `removed.jsonl.zst`.

A line of the file: `id` of the document as it was, `became` its id now ("" if nothing is left), `source`, `reason`,
`start` (characters, in the text as it was), `text`, and `first`: the id of the document that has the text first. This
module does not know what is cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.corpus.document import Document
from bloomery.corpus.shards import LineWriter

REMOVED_FILE = "removed.jsonl.zst"
_EXAMPLES = 5
_EXCERPT_CHARACTERS = 240


@dataclass(frozen=True)
class Cut:
    """A piece of a text: characters `start` to `end` are taken out, `first` says which document has them first."""

    start: int
    end: int
    first: str


class RemovedTexts:
    """Writes what is cut and counts it by reason; without anything cut there is no file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: LineWriter | None = None
        self._documents: Counter[str] = Counter()
        self._pieces: Counter[str] = Counter()
        self._characters: Counter[str] = Counter()
        self._longest: dict[str, list[dict[str, Any]]] = {}

    def cut(self, document: Document, cuts: Sequence[Cut], reason: str) -> Document:
        """The document without these pieces, which are in order and do not overlap.

        White space at an end that was cut goes too. Its metadata counts the pieces under the reason's plural, and has
        the id that it had first under `cut_from`.
        """
        text, at, left = document.text, 0, []
        for one in cuts:
            left.append(text[at : one.start])
            at = one.end
        rest = "".join([*left, text[at:]])
        rest = rest.rstrip() if at >= len(text.rstrip()) else rest
        rest = rest.lstrip("\n") if cuts[0].start <= len(text) - len(text.lstrip()) else rest
        metadata = {**document.metadata, f"{reason}s": len(cuts)}
        metadata.setdefault("cut_from", document.id)
        after = Document.of(rest, document.source, metadata)
        self._write(document, after, cuts, reason)
        return after

    def _write(self, document: Document, after: Document, cuts: Sequence[Cut], reason: str) -> None:
        if self._writer is None:
            self._writer = LineWriter(self._folder / REMOVED_FILE)
        self._documents[reason] += 1
        became = after.id if after.text.strip() else ""
        for one in cuts:
            text = document.text[one.start : one.end]
            row = {"id": document.id, "became": became, "source": document.source, "reason": reason}
            row |= {"start": one.start, "text": text, "first": one.first}
            self._writer.write(row)
            self._pieces[reason] += 1
            self._characters[reason] += len(text)
            longest = self._longest.setdefault(reason, [])
            if len(longest) < _EXAMPLES or len(text) > longest[-1]["characters"]:
                said = {"source": document.source, "first": one.first, "characters": len(text)}
                longest.append({**said, "text": text[:_EXCERPT_CHARACTERS]})
                longest.sort(key=lambda example: -example["characters"])
                del longest[_EXAMPLES:]

    def report(self, reason: str) -> dict[str, Any]:
        """How much was cut for a reason, and the longest pieces."""
        return {
            "documents_cut": self._documents[reason],
            "pieces": self._pieces[reason],
            "characters": self._characters[reason],
            "longest": self._longest.get(reason, []),
        }

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
