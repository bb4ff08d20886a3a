"""Sequences: the records of FASTA, FASTQ and GenBank files, one document each.

The text is the sequence without line ends, as it is written (lower case often marks repeats). Metadata: offset in the
file (uncompressed), id, description, length, `alphabet` (dna, rna or protein, by its letters); the quality string of
FASTQ (Phred, one character a base) and its mean; GenBank's annotations and features. The formats are those of NCBI's
BLAST help (FASTA), Cock et al. 2010 (FASTQ, doi:10.1093/nar/gkp1137) and the GenBank release notes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bloomery.corpus.config import CurateConfig
from bloomery.corpus.document import Document, readable
from bloomery.corpus.formats import kind_of
from bloomery.corpus.genbank import genbank_record
from bloomery.corpus.guard import Refused
from bloomery.corpus.problems import Problems
from bloomery.corpus.span import Span
from bloomery.corpus.streams import BrokenStream, placed_lines, read_blocks

_FASTQ = (".fastq", ".fq")
_GENBANK = (".gb", ".gbk", ".gbff", ".genbank")
_FATAL = ("unreadable",)
_LETTERS = re.compile(rb"[A-Za-z*.~-]*")
Line = tuple[int, int, bytes | None]


def read_sequences(
    path: Path, config: CurateConfig, problems: Problems, *, span: Span | None = None
) -> Iterator[Document]:
    """The records of a file, or of a span of it, as documents; `source` is `PATH, offset N`.

    A record that is broken is refused with its offset: sequence_too_long (max_document_bytes), broken_record (no
    identifier, quality scores of another length, no end), not_a_record, not_a_sequence (other characters than letters).
    BrokenStream if the file cannot be opened.
    """
    return _Sequences(path, config, problems, span or Span()).documents()


class _Sequences:
    def __init__(self, path: Path, config: CurateConfig, problems: Problems, span: Span) -> None:
        self.path, self.config, self.problems, self.span = path, config, problems, span
        self.name = readable(str(path))
        suffix = kind_of(path)
        self.kind = "fastq" if suffix in _FASTQ else "genbank" if suffix in _GENBANK else "fasta"
        self.record = {"fastq": self._fastq, "genbank": self._genbank, "fasta": self._fasta}[self.kind]
        self.mark = {"fastq": b"@", "genbank": b"LOCUS ", "fasta": b">"}[self.kind]
        self.ahead: list[Line] = []  # lines that were looked at, the next one last

    def documents(self) -> Iterator[Document]:
        start = max(0, self.span.start - 1)
        blocks = read_blocks(self.path, max_expansion=self.config.max_expansion, start=start)
        self.lines = placed_lines(blocks, max_bytes=self.config.max_document_bytes, offset=start)
        offset = 0
        try:
            if self.span.start:
                next(self.lines, None)
                if not self.span.sure and not self._find_first():
                    return
            while (line := self._next()) is not None:
                offset = line[1]
                if self.span.stop is not None and offset >= self.span.stop:
                    self.span.end = offset
                    return
                if self.span.begin is None:
                    self.span.begin = offset
                if line[2] is None or line[2].strip():
                    yield from self._document(line)
        except BrokenStream as error:
            if error.reason in _FATAL:
                raise
            self.problems.refuse(error.reason, f"{self.name}, offset {offset}", error.detail)

    def _document(self, line: Line) -> Iterator[Document]:
        source = f"{self.name}, offset {line[1]}"
        try:
            if line[2] is None or not line[2].startswith(self.mark):
                self._pass_over()
                if self.kind == "genbank" and line[1] == 0:
                    return self.problems.drop("not_a_record", source, "a header before the first LOCUS")
                raise Refused("not_a_record", f"no {self.kind} record begins here", broken=True)
            text, known = self.record(line[2])
            known = {key: value for key, value in known.items() if value not in ("", [], {}, None)}
        except Refused as refused:
            (self.problems.refuse if refused.broken else self.problems.drop)(refused.reason, source, refused.detail)
            return
        yield Document.of(text, source, {"offset": line[1], **known, "length": len(text), "alphabet": alphabet(text)})

    # Lines

    def _next(self) -> Line | None:
        return self.ahead.pop() if self.ahead else next(self.lines, None)

    def _pass_over(self) -> None:
        """To the next line with which a record begins."""
        while (line := self._next()) is not None:
            if line[2] is not None and line[2].startswith(self.mark):
                self.ahead.append(line)
                return

    def _find_first(self) -> bool:
        """To the first record from the middle of a file. A FASTQ quality may begin as a record does: two lines after
        a record's first there is a plus sign."""
        while (line := self._next()) is not None:
            if self.span.stop is not None and line[1] >= self.span.stop:
                return False
            if line[2] is None or not line[2].startswith(self.mark):
                continue
            if self.kind == "fastq":
                following = [self._next(), self._next()]
                sign = following[1][2] if following[1] is not None else None
                self.ahead += [known for known in reversed(following) if known is not None]
                if sign is None or not sign.startswith(b"+"):
                    continue
            self.ahead.append(line)
            return True
        return False

    def _joined(self, ends: tuple[bytes, ...]) -> bytes:
        """The lines up to one that begins so, without white space; Refused if they are too long or no letters."""
        parts: list[bytes] = []
        size, limit = 0, self.config.max_document_bytes
        while (line := self._next()) is not None:
            if line[2] is not None and line[2].startswith(ends):
                self.ahead.append(line)
                break
            size += limit + 1 if line[2] is None else len(line[2])
            if size <= limit:
                parts.append(b"".join((line[2] or b"").split()))
        if size > limit:
            raise Refused("sequence_too_long", f"more than {limit:,} bytes", broken=True)
        data = b"".join(parts)
        if not _LETTERS.fullmatch(data):
            raise Refused("not_a_sequence", "it holds other characters than letters, *, -, . and ~", broken=True)
        return data

    # Records

    def _fasta(self, first: bytes) -> tuple[str, dict[str, Any]]:
        data = self._joined((b">",))
        return self._letters(data), _title(first[1:])

    def _letters(self, data: bytes) -> str:
        if not data:
            raise Refused("empty_record", "no sequence")
        return data.decode("ascii")

    def _fastq(self, first: bytes) -> tuple[str, dict[str, Any]]:
        data = self._joined((b"+", b"@"))
        plus = self._next()
        if plus is None or not (plus[2] or b"").startswith(b"+"):
            if plus is not None:
                self.ahead.append(plus)
            raise Refused("broken_record", "no + line after its sequence", broken=True)
        quality = b""
        while len(quality) < len(data) and (line := self._next()) is not None:
            if line[2] is None or len(quality) + len(line[2]) > self.config.max_document_bytes:
                raise Refused("sequence_too_long", "its quality line", broken=True)
            quality += line[2].rstrip(b"\r")
        if len(quality) != len(data) or not all(33 <= code <= 126 for code in quality):
            self._pass_over()
            detail = f"{len(quality):,} quality scores for {len(data):,} bases"
            raise Refused("broken_record", detail, broken=True)
        mean = round(sum(quality) / len(quality) - 33, 3) if quality else None
        known = {**_title(first[1:]), "quality": quality.decode("ascii"), "mean_quality": mean}
        return self._letters(data), known

    def _genbank(self, first: bytes) -> tuple[str, dict[str, Any]]:
        lines, size, limit = [first], len(first), self.config.max_document_bytes
        ended = False
        while (line := self._next()) is not None:
            data = line[2]
            if data is not None and data.startswith(self.mark):
                self.ahead.append(line)
                break
            if data is not None and data.rstrip() == b"//":
                ended = True
                break
            size += limit + 1 if data is None else len(data)
            if size <= limit:
                lines.append(data or b"")
        if size > limit:
            raise Refused("sequence_too_long", f"more than {limit:,} bytes", broken=True)
        if not ended:
            raise Refused("broken_record", "it has no end (//)", broken=True)
        data, known = genbank_record([line.decode("utf-8", "replace").rstrip() for line in lines])
        if not _LETTERS.fullmatch(data.encode("utf-8", "replace")):
            raise Refused("not_a_sequence", "it holds other characters than letters", broken=True)
        return self._letters(data.encode()), known


def _title(line: bytes) -> dict[str, Any]:
    """The identifier up to the first blank, and the rest of the line."""
    identifier, _, description = readable(line.decode("utf-8", "replace")).strip().partition(" ")
    return {"id": identifier, "description": description.strip()}


def alphabet(sequence: str) -> str:
    """dna, rna or protein: nucleotides are ACGTUN, gaps and a tenth of IUPAC's other letters at most."""
    letters = [letter for letter in sequence[:10_000].upper() if letter.isalpha()]
    plain = sum(letter in "ACGTUN" for letter in letters)
    codes = sum(letter in "ACGTUNRYSWKMBDHV" for letter in letters)
    if not letters or codes < len(letters) or plain < 0.9 * len(letters):
        return "protein"
    return "rna" if "U" in letters and "T" not in letters else "dna"
