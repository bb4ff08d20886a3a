"""Opening: a tokenizer from whatever names one, an artifact, a folder or a single published file.

A folder is one of ours or any that `Tokenizer.load` reads; a file is a tokenizer.json, a rank file of tiktoken, a
SentencePiece model or a WordPiece vocabulary, told apart by what is in it and not by its name, compressed or not
(gzip, xz, zstd, bzip2). Beside a rank file the JSON file that `export` writes is read too. This module does not know
what any of them looks like inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bloomery.core.config import digest
from bloomery.core.errors import BloomeryError, DataError
from bloomery.core.workspace import Workspace
from bloomery.tokenizer.tiktoken_file import looks_like_tiktoken
from bloomery.tokenizer.tokenizer import TOKENIZER_FILES, Tokenizer

_MAX_BYTES = 128 * 1024 * 1024
_MAX_EXPANSION = 200
_KNOWN = "a tokenizer's name here, a folder, tokenizer.json, *.tiktoken, a SentencePiece *.model or vocab.txt"


@dataclass(frozen=True, kw_only=True)
class OpenedTokenizer:
    """`name` is short, `source` the path it came from, `digest` the SHA-256 (hex) of what decides its tokens."""

    name: str
    source: str
    digest: str
    tokenizer: Tokenizer
    artifact: str = ""
    """The full id, if it is an artifact of the workspace."""


def open_tokenizer(reference: str | Path, workspace: Workspace | None = None) -> OpenedTokenizer:
    """A tokenizer by path, or by an artifact's name or id. DataError, in one line, for what is none."""
    path = Path(reference).expanduser()
    try:
        if path.is_file():
            return _opened(_stem(path), str(path), _of_file(path))
        if path.is_dir() and not (path / "manifest.json").is_file():
            return _opened(path.resolve().name, str(path), Tokenizer.load(path))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:  # a NUL byte in the name
        raise DataError(f"{str(reference)!r} names no tokenizer: {error}", hint=_KNOWN) from error
    if workspace is None:
        raise DataError(f"no tokenizer at {reference}", hint=_KNOWN)
    try:
        found = workspace.find(reference)
    except BloomeryError as error:
        if path.is_dir():
            raise  # an artifact that is damaged
        raise DataError(f"no tokenizer {str(reference)!r}: neither a path nor an artifact here", hint=_KNOWN) from error
    return _opened(found.name, str(found.path), Tokenizer.load(found.path), artifact=found.id)


def named_apart(opened: list[OpenedTokenizer]) -> dict[str, OpenedTokenizer]:
    """The tokenizers by names that differ: a second one of a name is "NAME (2)"."""
    found: dict[str, OpenedTokenizer] = {}
    for one in opened:
        name, number = one.name, 1
        while name in found:
            number += 1
            name = f"{one.name} ({number})"
        found[name] = one
    return found


def _opened(name: str, source: str, tokenizer: Tokenizer, *, artifact: str = "") -> OpenedTokenizer:
    stamp = digest(tokenizer.description)  # tokenizer.json decides ids and texts, converted or as it was
    return OpenedTokenizer(name=name, source=source, digest=stamp, tokenizer=tokenizer, artifact=artifact)


def _stem(path: Path) -> str:
    """A file's name without the endings of its form; its folder's, if what is left says nothing."""
    name = _unpacked_name(path)
    for suffix in (".tiktoken", ".model", ".json", ".txt"):
        name = name.removesuffix(suffix)
    said = name not in ("tokenizer", "vocab", "spiece", "sentencepiece.bpe", "")
    return name if said else (path.resolve().parent.name or name)


def _unpacked_name(path: Path) -> str:
    from bloomery.corpus.streams import COMPRESSIONS  # here: a model that is loaded needs no corpus

    return path.name.removesuffix(path.suffix) if path.suffix in COMPRESSIONS else path.name


def _beside(path: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Those of the names that are files beside `path`."""
    sides = {name: path.with_name(name) for name in names}
    return {name: _content(side) for name, side in sides.items() if side.is_file() and side != path}


def _of_file(path: Path) -> Tokenizer:
    files = _as_files(path)
    try:
        return Tokenizer(files, source=str(path))
    except DataError as error:  # which speaks of files in a folder: here the first file is `path` itself
        main, *sides = files
        said = error.message
        for name in sides:
            said = said.replace(f"{path}/{name}", str(path.with_name(name)))
        raise DataError(said.replace(f"{path}/{main}", str(path)), hint=error.hint) from error


def _as_files(path: Path) -> Mapping[str, bytes]:
    """The file under the name that its form has in a folder, and after it the JSON files that belong to it."""
    data = _content(path)
    if data[:512].lstrip().startswith(b"{") and data[-512:].rstrip().endswith(b"}"):
        names = [name for name in TOKENIZER_FILES if name.endswith(".json") and name != "tokenizer.json"]
        return {"tokenizer.json": data, **_beside(path, names)}
    if looks_like_tiktoken(data):
        name = _unpacked_name(path)
        name += "" if name.endswith(".tiktoken") else ".tiktoken"
        return {name: data, **_beside(path, [f"{name}.json"])}
    if b"[UNK]" in data and b"\0" not in data:
        return {"vocab.txt": data}
    if data.startswith(b"\n"):  # protobuf: field 1, the first piece
        return {"tokenizer.model": data}
    raise DataError(f"{path} is no tokenizer that can be read", hint=_KNOWN)


def _content(path: Path) -> bytes:
    from bloomery.corpus.streams import BrokenStream, read_blocks

    data = bytearray()
    try:
        for block in read_blocks(path, max_expansion=_MAX_EXPANSION):
            data += block
            if len(data) > _MAX_BYTES:
                raise DataError(f"{path} is larger than {_MAX_BYTES:,} bytes: not a file of a tokenizer")
    except BrokenStream as error:
        raise DataError(f"cannot read {path}: {error.detail}") from error
    if not data:
        raise DataError(f"{path} is empty", hint=_KNOWN)
    return bytes(data)
