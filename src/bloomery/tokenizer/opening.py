"""Opening: a tokenizer from whatever names one, an artifact, a folder or a single published file.

A folder is one of ours or any that `Tokenizer.load` reads; a file is a tokenizer.json, a rank file of tiktoken, a
SentencePiece model or a WordPiece vocabulary, told apart by what is in it and not by its name, compressed or not
(gzip, xz, zstd, bzip2). This module does not know what any of them looks like inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bloomery.core.config import digest
from bloomery.core.errors import BloomeryError, DataError
from bloomery.core.workspace import Workspace
from bloomery.corpus.streams import COMPRESSIONS, BrokenStream, read_blocks
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
            tokenizer = Tokenizer(_as_files(path), source=str(path))
            return _opened(_stem(path), str(path), tokenizer)
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
    name = path.name
    for suffix in (*COMPRESSIONS, ".tiktoken", ".model", ".json", ".txt"):
        name = name.removesuffix(suffix)
    said = name not in ("tokenizer", "vocab", "spiece", "sentencepiece.bpe", "")
    return name if said else (path.resolve().parent.name or name)


def _as_files(path: Path) -> Mapping[str, bytes]:
    """The file under the name that its form has in a folder, with the JSON files beside a tokenizer.json."""
    data = _content(path)
    if data[:512].lstrip().startswith(b"{") and data[-512:].rstrip().endswith(b"}"):
        sides = {name: path.with_name(name) for name in TOKENIZER_FILES if name.endswith(".json")}
        found = {name: side.read_bytes() for name, side in sides.items() if side.is_file() and side != path}
        return {**found, "tokenizer.json": data}
    if looks_like_tiktoken(data):
        return {f"{_stem(path)}.tiktoken": data}
    if b"[UNK]" in data and b"\0" not in data:
        return {"vocab.txt": data}
    if data.startswith(b"\n"):  # protobuf: field 1, the first piece
        return {"tokenizer.model": data}
    raise DataError(f"{path} is no tokenizer that can be read", hint=_KNOWN)


def _content(path: Path) -> bytes:
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
