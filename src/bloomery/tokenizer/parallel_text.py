"""Parallel text: the same sentences in several languages, from the files in which such data is published.

A folder (or tar) holds a file a language, known by its code in the name (`de.tsv.xz`, `val.de.gz`, `eng_Latn.devtest`),
with an identifier a row or aligned line by line; or pairs (`NAME.deu-eng.deu` beside `NAME.deu-eng.eng`), in which
every language has an English of its own. A file (TSV, CSV, JSONL) holds a column a language, or rows of id, language
and text. TSV has no quoting. What is empty is left out. This module does not know tokenizers.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from bloomery.core.errors import ConfigError, DataError, nearest
from bloomery.corpus.streams import COMPRESSIONS, BrokenStream, read_blocks

ENGLISH = ("en", "eng", "eng_Latn", "en-US", "en_US", "en-GB", "en_GB", "english")
_CODE = re.compile(r"[a-z]{2,3}(?:[-_][A-Za-z0-9]{2,8}){0,2}")
_PAIR = re.compile(r"(.*?)\.?([a-z]{2,3}(?:_\w+)?)-([a-z]{2,3}(?:_\w+)?)\.([a-z]{2,3}(?:_\w+)?)")
_NO_LANGUAGE = frozenset({"dev", "val", "raw", "tok", "bpe", "spm", "sgm", "xml", "src", "ref", "hyp", "all", "new"})
_FORMS = (".tsv", ".csv", ".jsonl", ".ndjson", ".txt")
_TEXT_FIELDS = ("utt", "utterance", "text", "sentence", "translation")
_ID_FIELDS = ("id", "key", "sentence_id")
_LANGUAGE_FIELDS = ("language", "lang", "locale")
_MAX_BYTES = 4 << 30
_MAX_EXPANSION = 200
_EXAMPLE = "a folder with a file a language (de.tsv, val.de.gz), or a TSV, CSV or JSONL with a column a language"


@dataclass
class ParallelText:
    """`sentences[language][key]` is a text; equal keys say the same. `blank` counts what was empty and left out."""

    sentences: dict[str, dict[str, str]] = field(default_factory=dict)
    blank: int = 0
    digest: str = ""

    def add(self, language: str, key: str, text: str, where: str) -> None:
        """DataError if the language has this key already."""
        text = text.strip("\r\n")
        if not text.strip():
            self.blank += 1
            return
        kept = self.sentences.setdefault(language, {})
        if key in kept:
            raise DataError(
                f'{where}: "{key}" stands twice for {language}', hint="one partition only: --partition NAME"
            )
        kept[key] = text

    def reference(self, asked: str = "") -> str:
        """The language that others are compared with: the one asked for, else English. ConfigError if there is none."""
        if asked and asked not in self.sentences:
            raise ConfigError(f'no language "{asked}" in the texts', hint=nearest(asked, self.sentences))
        found = asked or next((name for name in ENGLISH if name in self.sentences), "")
        if not found:
            raise ConfigError("the texts hold no English to compare with", hint="--reference LANGUAGE names another")
        return found

    def only(self, languages: Iterable[str]) -> None:
        """Leave out other languages. ConfigError for one that is not there."""
        wanted = list(languages)
        for language in wanted:
            if language not in self.sentences:
                raise ConfigError(f'no language "{language}" in the texts', hint=nearest(language, self.sentences))
        self.sentences = {name: kept for name, kept in self.sentences.items() if name in wanted}


def read_parallel(path: str | Path, *, partition: str = "", text_field: str = "") -> ParallelText:
    """Read parallel text; `partition` is that of rows which name one, else of files (`val` of val.de.gz).

    `text_field` names the column of the text where it is not one of utt, text, sentence. DataError, in one line with
    file and line, for what cannot be read; ConfigError for a path that is not there or a partition that nothing has.
    """
    path = Path(path).expanduser()
    found = _Reading(partition, text_field)
    try:
        if path.is_dir():
            files = [one for one in sorted(path.rglob("*")) if one.is_file() and not one.name.startswith(".")]
            _of_languages(found, [(one.name, str(one), _lines(one)) for one in files], str(path))
        elif _is_tar(path):
            _of_languages(found, _members(path), str(path))
        elif path.is_file():
            found.rows(path.name, str(path), _lines(path), language="")
        else:
            raise ConfigError(f"no such file or folder: {path}", hint=_EXAMPLE)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:  # a NUL byte in the name
        raise ConfigError(f"{str(path)!r} is not a path: {error}", hint=_EXAMPLE) from error
    text = found.text
    if not text.sentences:
        if partition and found.partitions:
            raise ConfigError(f'no sentence is of partition "{partition}"', hint=nearest(partition, found.partitions))
        raise DataError(f"{path} holds no parallel text", hint=_EXAMPLE)
    text.sentences = dict(sorted(text.sentences.items()))
    text.digest = _digest(text)
    return text


def _digest(text: ParallelText) -> str:
    """SHA-256 (hex) of all sentences with their languages and keys."""
    digest = hashlib.sha256()
    for language, kept in text.sentences.items():
        for key, sentence in kept.items():
            digest.update(f"{language}\0{key}\0{sentence}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _bare(name: str) -> tuple[str, str]:
    """(the name without compression and form, its form or "")."""
    for suffix in COMPRESSIONS:
        name = name.removesuffix(suffix)
    form = next((one for one in _FORMS if name.lower().endswith(one)), "")
    return name[: len(name) - len(form)], form


def _of_languages(found: _Reading, files: Iterable[tuple[str, str, Iterator[str]]], where: str) -> None:
    """Files of one language each, by their names; others (a README, a table of results) are passed over."""
    for name, path, lines in files:
        bare, form = _bare(name)
        if pair := _PAIR.fullmatch(bare):
            if pair[4] in (pair[2], pair[3]):
                found.plain(path, lines, language=pair[4], prefix=f"{pair[1]}.{pair[2]}-{pair[3]}")
            continue
        parts = bare.split(".")
        places = [n for n, part in enumerate(parts) if _CODE.fullmatch(part) and part not in _NO_LANGUAGE]
        if not places or name.lower().startswith(("readme", "license", "notice")):
            continue
        language = parts.pop(places[-1])
        rest = ".".join(parts)
        if form in ("", ".txt"):
            found.plain(path, lines, language=language, prefix=rest, part=rest)
        else:
            found.rows(name, path, lines, language=language, prefix=f"{rest}:" if rest else "")


class _Reading:
    """What has been read so far."""

    def __init__(self, partition: str, text_field: str) -> None:
        self.partition, self.text_field = partition, text_field
        self.text = ParallelText()
        self.partitions: set[str] = set()

    def plain(self, where: str, lines: Iterator[str], *, language: str, prefix: str, part: str = "") -> None:
        """A sentence a line; the line's number is its key."""
        if part:
            self.partitions.add(part)
        if self.partition and part != self.partition:
            return
        for number, line in enumerate(lines, 1):
            self.text.add(language, f"{prefix}:{number}", line, f"{where}, line {number}")

    def rows(self, name: str, where: str, lines: Iterator[str], *, language: str, prefix: str = "") -> None:
        """Rows with named fields. Without a `language`, rows hold one a field, or name it."""
        _, form = _bare(name)
        if form in (".jsonl", ".ndjson"):
            rows = _objects(lines, where)
        elif form in (".tsv", ".csv"):
            rows = _table(lines, where, tabs=form == ".tsv")
        else:
            raise DataError(f"{where} is neither TSV, CSV nor JSONL", hint=_EXAMPLE)
        for number, row in rows:
            self._row(row, f"{where}, line {number}", number, language, prefix)

    def _row(self, row: Mapping[str, Any], where: str, number: int, language: str, prefix: str) -> None:
        part = row.get("partition")
        part = row.get("split") if part is None else part
        if part is not None:
            self.partitions.add(str(part))
        if self.partition and str(part) != self.partition:
            return
        key = next((str(row[name]) for name in _ID_FIELDS if row.get(name) is not None), str(number))
        named = language or next((str(row[name]) for name in _LANGUAGE_FIELDS if row.get(name)), "")
        if named:
            self.text.add(named, prefix + key, self._text_of(row, where), where)
            return
        nested = row.get("translation")
        row = nested if isinstance(nested, Mapping) else row
        texts = {name: text for name, text in row.items() if _CODE.fullmatch(name) and isinstance(text, str)}
        texts = {name: text for name, text in texts.items() if name not in _ID_FIELDS}
        if len(texts) < 2:
            raise DataError(f"{where}: no two columns are languages, and none names one", hint=_EXAMPLE)
        for name, text in texts.items():
            self.text.add(name, prefix + key, text, where)

    def _text_of(self, row: Mapping[str, Any], where: str) -> str:
        names = (self.text_field,) if self.text_field else _TEXT_FIELDS
        text = next((row[name] for name in names if isinstance(row.get(name), str)), None)
        if text is None:
            there = ", ".join(list(row)[:8])
            raise DataError(f"{where}: no text in {' or '.join(names)}; there is: {there}", hint="--text-field NAME")
        return text


def _objects(lines: Iterable[str], where: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}, line {number}: not JSON: {error}") from error
        if not isinstance(row, Mapping):
            raise DataError(f"{where}, line {number}: not a JSON object")
        yield number, row


def _table(lines: Iterator[str], where: str, *, tabs: bool) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows by the names of the first line."""
    reader = (line.rstrip("\r").split("\t") for line in lines) if tabs else csv.reader(f"{line}\n" for line in lines)
    number = 0
    try:
        header = next(reader, [])
        for number, cells in enumerate(reader, 2):
            if len(cells) != len(header):
                said = f"{len(cells)} cells, the first line has {len(header)}"
                raise DataError(f"{where}, line {number}: {said}", hint="the first line names the columns")
            yield number, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"{where}, behind line {number}: {error}") from error


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file, decompressed."""
    try:
        yield from _decoded(read_blocks(path, max_expansion=_MAX_EXPANSION), str(path))
    except BrokenStream as error:
        raise DataError(f"cannot read {path}: {error.detail}") from error


def _decoded(blocks: Iterable[bytes], where: str) -> Iterator[str]:
    """Lines without their ends; a file of more than _MAX_BYTES is refused."""
    rest, number, left = b"", 0, _MAX_BYTES
    for block in chain(blocks, (b"",)):
        left -= len(block)
        if left < 0:
            raise DataError(f"{where} is larger than {_MAX_BYTES:,} bytes", hint="give a part of it")
        data = rest + block
        end = data.rfind(b"\n") + 1 if block else len(data)
        whole, rest = data[:end], data[end:]
        try:
            text = whole.decode()
        except UnicodeDecodeError as error:
            line = number + whole.count(b"\n", 0, error.start) + 1
            raise DataError(f"{where}, line {line}: not UTF-8 ({error.reason})") from error
        found = (text if number else text.removeprefix("\ufeff")).split("\n")
        if not found[-1]:
            found.pop()
        number += len(found)
        yield from found


def _is_tar(path: Path) -> bool:
    bare = path.name.lower()
    for suffix in COMPRESSIONS:
        bare = bare.removesuffix(suffix)
    return path.is_file() and bare.endswith((".tar", ".tgz", ".txz"))


def _members(path: Path) -> Iterator[tuple[str, str, Iterator[str]]]:
    """(name, where, lines) of a tar's files, in the archive's order, which is read once."""
    import tarfile

    left = _MAX_BYTES
    try:
        with tarfile.open(path, mode="r:*") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                left -= member.size
                stream = archive.extractfile(member)
                if left < 0 or stream is None:
                    raise DataError(f"{path} unpacks to more than {_MAX_BYTES:,} bytes", hint="give a part of it")
                data = io.BytesIO(stream.read())
                name = Path(member.name).name
                if name.startswith((".", "._")) or name.lower().endswith(COMPRESSIONS):
                    continue
                where = f"{path}, {member.name}"
                yield name, where, _decoded(iter(lambda data=data: data.read(1 << 20), b""), where)
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
