"""Picture sources: from folders, tar shards, JSONL and Parquet to pictures with captions, as they lie there.

A folder is read recursively; a tar shard as webdataset writes it, members of one key together (`0001.png`, `0001.txt`
or `0001.json`); JSONL and Parquet by a column that holds a path beside the file, or the bytes. What cannot be used is
told to `Problems`, everything else is kept. This module does not decode pictures, nor does it know splits or shards.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, cast

from bloomery.core.config import digest
from bloomery.core.errors import ConfigError
from bloomery.corpus.document import readable
from bloomery.corpus.formats import JSONL_SUFFIXES, PARQUET_SUFFIXES, kind_of
from bloomery.corpus.problems import Problems
from bloomery.corpus.sources import source_files, walk
from bloomery.corpus.streams import BrokenStream, lines, read_blocks

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"GIF8")
TAR_SUFFIXES = (".tar", ".tgz")
_MIB = 1024 * 1024
_CAPTION_BYTES = _MIB
_MOST_MEMBERS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class PicturesConfig:
    """What a corpus of pictures is made of and how it is divided."""

    sources: tuple[str, ...] = ()
    """Folders of pictures, tar shards, JSONL or Parquet files, globs."""
    captions: Literal["text", "folder", "name"] = "text"
    """A folder's or shard's captions: `.txt` or `.json` beside a picture, the name of its folder, or its own name. With
    names, JSONL and Parquet files that lie among a folder's pictures are not read."""
    image_field: str = "image"
    """Field of a JSONL object or column of a Parquet file: a path, or in Parquet the bytes; "file_name" (as Hugging
    Face's image folders have it) and "file" are tried where it is not there."""
    image_root: str = ""
    """The folder, below that of the JSONL or Parquet file, that paths begin in."""
    caption_field: str = "caption"
    """Field of the caption; "text" and "label" are tried where it is not there."""
    metadata_fields: tuple[str, ...] = ()
    """Other fields to keep."""
    validation_fraction: float = 0.05
    """Share of validation, by a hash of the picture."""
    test_fraction: float = 0.05
    """Share of the test split; equal pictures are always in one split."""
    max_image_bytes: int = 16 * _MIB
    """A larger picture is left out."""
    max_pixels: int = 64 * _MIB
    """A picture of more pixels is left out before it is decoded."""
    max_expansion: int = 200
    """A compressed shard is read until it has grown by this factor (and 64 MiB)."""
    shard_bytes: int = 256 * _MIB
    """Bytes of pictures in a shard of the corpus."""
    strict: bool = False
    """Stop at the first problem instead of counting it."""

    def __post_init__(self) -> None:
        limits = {
            "validation_fraction": (0.0, 0.5),
            "test_fraction": (0.0, 0.4),
            "max_image_bytes": (64, 1 << 30),
            "max_pixels": (1, 64 * _MIB),
            "max_expansion": (1, 1 << 30),
            "shard_bytes": (1024, 1 << 36),
        }
        for key, (low, high) in limits.items():
            if not low <= getattr(self, key) <= high:
                raise ConfigError(f'"{key}" is {getattr(self, key)}, but should be from {low:,} to {high:,}')


@dataclass(frozen=True)
class FoundPicture:
    """A picture's bytes as they were found, with its caption and where it came from."""

    data: bytes
    caption: str
    source: str
    metadata: dict[str, Any] = field(default_factory=dict)


def picture_files(source: str) -> Iterator[Path]:
    """The files of a source, in name order; of a folder those that this module reads. ConfigError if there is none."""
    path = Path(source).expanduser()
    if not path.is_dir():
        yield from (found.path for found in source_files(source))
        return
    found = False
    for one in walk(path):
        if one.suffix.lower() in PICTURE_SUFFIXES or _is_tar(one) or kind_of(one) in JSONL_SUFFIXES + PARQUET_SUFFIXES:
            found = True
            yield one
    if not found:
        known = " ".join((*PICTURE_SUFFIXES, *TAR_SUFFIXES, *JSONL_SUFFIXES, *PARQUET_SUFFIXES))
        raise ConfigError(f"{source} holds no picture", hint=f"files are known by {known}")


def picture_fingerprint(config: PicturesConfig) -> str:
    """A digest of what the sources are now: path, size and modification time of every file."""
    if not config.sources:
        raise ConfigError('"sources" is empty', hint="folders, tar shards, JSONL or Parquet files")
    parts = []
    for source in config.sources:
        for path in picture_files(source):
            status = path.stat()
            parts.append([ascii(str(path)), status.st_size, status.st_mtime_ns])
    return digest(parts)


def read_picture_sources(
    config: PicturesConfig, problems: Problems, say: Callable[[str], None] = lambda text: None
) -> Iterator[FoundPicture]:
    """Every picture of every source, in order. `say` is told of files that are passed over on purpose."""
    for source in config.sources:
        passed = _passed_over(source, config, say)
        for path in picture_files(source):
            if passed(path):
                continue
            try:
                yield from _read(path, config, problems)
            except BrokenStream as error:
                problems.add(error.reason, str(path), error.detail)
            except OSError as error:
                problems.add("unreadable", str(path), error.strerror or str(error))


def _passed_over(source: str, config: PicturesConfig, say: Callable[[str], None]) -> Callable[[Path], bool]:
    """A folder's pictures and the files that list them would come twice: the lists are meant, unless captions are to
    be names, which lists do not have."""
    if not Path(source).expanduser().is_dir():
        return lambda path: False
    lists = [path for path in picture_files(source) if _is_list(path)]
    if not lists or config.captions == "text":
        return lambda path: bool(lists) and path.suffix.lower() in PICTURE_SUFFIXES
    if all(_is_list(path) for path in picture_files(source)):
        return lambda path: False  # lists alone: there is nothing that has a name
    more = f" and {len(lists) - 1:,} more" if len(lists) > 1 else ""
    say(f"captions are the {config.captions}'s name, so {readable(str(lists[0]))}{more} is not read")
    return _is_list


def _is_list(path: Path) -> bool:
    return kind_of(path) in JSONL_SUFFIXES + PARQUET_SUFFIXES


def _is_tar(path: Path) -> bool:
    return kind_of(path) == ".tar" or path.suffix.lower() == ".tgz"


def _read(path: Path, config: PicturesConfig, problems: Problems) -> Iterator[FoundPicture]:
    if _is_tar(path):
        yield from _read_tar(path, config, problems)
    elif kind_of(path) in JSONL_SUFFIXES:
        yield from _read_jsonl(path, config, problems)
    elif kind_of(path) in PARQUET_SUFFIXES:
        yield from _read_parquet(path, config, problems)
    else:
        beside = {}
        for suffix in (".txt", ".json"):
            other = path.with_suffix(suffix)
            if config.captions == "text" and other.is_file() and other.stat().st_size <= _CAPTION_BYTES:
                beside[suffix] = other.read_bytes()
        if path.suffix.lower() in (".txt", ".json") and _has_picture(path):
            return  # it says something of a picture, which a pattern has found too
        data = _bounded(path, config, problems)
        if data is not None and path.suffix.lower() not in PICTURE_SUFFIXES and not data.startswith(_MAGIC):
            problems.add("no_picture", str(path), "neither by its name nor by its first bytes")
        elif data is not None:
            yield from _captioned(data, path.parent.name, path.stem, beside, readable(str(path)), config, problems)


def _has_picture(path: Path) -> bool:
    return any(path.with_suffix(suffix).is_file() for suffix in PICTURE_SUFFIXES)


def _bounded(path: Path, config: PicturesConfig, problems: Problems) -> bytes | None:
    with path.open("rb") as file:
        data = file.read(config.max_image_bytes + 1)
    if len(data) > config.max_image_bytes:
        problems.add("image_too_large", str(path), f"more than {config.max_image_bytes:,} bytes")
        return None
    return data


def _captioned(
    data: bytes,
    folder: str,
    stem: str,
    beside: Mapping[str, bytes],
    where: str,
    config: PicturesConfig,
    problems: Problems,
) -> Iterator[FoundPicture]:
    """A picture with the caption that the config means."""
    row: dict[str, Any] = {}
    if ".json" in beside:
        try:
            row = json.loads(beside[".json"])
        except (ValueError, RecursionError) as error:
            problems.add("broken_json", where, str(error))
        row = row if isinstance(row, dict) else {}
    if config.captions == "folder":
        caption: Any = folder
    elif config.captions == "name":
        caption = stem.replace("_", " ").replace("-", " ")
    elif ".txt" in beside:
        caption = beside[".txt"].decode("utf-8", "replace")
    else:
        caption = _caption_of(row, config)
    if not isinstance(caption, str) or not caption.strip():
        problems.add("no_caption", where, "" if config.captions != "text" else "no .txt or .json beside it")
        return
    yield FoundPicture(data, readable(caption.strip()), where, _kept(row, config))


def _caption_of(row: Mapping[str, Any], config: PicturesConfig) -> Any:
    found = next((row[key] for key in (config.caption_field, "text", "label") if key in row), None)
    return str(found) if isinstance(found, (int, float)) and not isinstance(found, bool) else found


def _kept(row: Mapping[str, Any], config: PicturesConfig) -> dict[str, Any]:
    plain = (str, int, float, bool, list, type(None))
    return {key: row[key] for key in config.metadata_fields if key in row and isinstance(row[key], plain)}


class _Blocks:
    """Blocks of bytes as the file that tarfile reads."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest = blocks, b""
        self.tail = b""

    def read(self, size: int) -> bytes:
        parts, have = [self._rest], len(self._rest)
        while have < size and (block := next(self._blocks, b"")):
            parts.append(block)
            have += len(block)
        whole = b"".join(parts)
        self._rest, found = whole[size:], whole[:size]
        self.tail = (self.tail + found)[-tarfile.BLOCKSIZE :]
        return found


def _read_tar(path: Path, config: PicturesConfig, problems: Problems) -> Iterator[FoundPicture]:
    """Members in order, those of one key together. Links, devices and names that leave the folder are left out."""
    name = readable(str(path))
    unpacked = path.with_suffix(".gz") if path.suffix.lower() == ".tgz" else path
    blocks = _Blocks(read_blocks(path, max_expansion=config.max_expansion, suffix=unpacked.suffix.lower()))
    key, group = "", {}
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", blocks), mode="r|") as tar:
            for number, member in enumerate(tar):
                if number >= _MOST_MEMBERS:
                    problems.add("too_many_members", name, f"more than {_MOST_MEMBERS:,}")
                    break
                inner = PurePosixPath(readable(member.name))
                if member.isdir():
                    continue
                where = f"{name}:{inner}"
                if not member.isreg() or inner.is_absolute() or ".." in inner.parts:
                    problems.add("not_a_plain_member", where)
                    continue
                suffix = inner.suffix.lower()
                if suffix not in (*PICTURE_SUFFIXES, ".txt", ".json"):
                    continue
                if member.size > (config.max_image_bytes if suffix in PICTURE_SUFFIXES else _CAPTION_BYTES):
                    problems.add("image_too_large", where, f"{member.size:,} bytes")
                    continue
                stem = str(inner.with_suffix(""))
                if stem != key:
                    yield from _grouped(key, group, name, config, problems)
                    key, group = stem, {}
                file = tar.extractfile(member)
                group[suffix] = b"" if file is None else file.read()
            yield from _grouped(key, group, name, config, problems)
            if any(blocks.tail):  # tarfile takes a header that was cut for the end
                problems.add("truncated", name, "no end mark")
    except tarfile.TarError as error:
        yield from _grouped(key, group, name, config, problems)
        problems.add("damaged", name, str(error))
    except BrokenStream as error:
        yield from _grouped(key, group, name, config, problems)
        problems.add(error.reason, name, error.detail)


def _grouped(
    key: str, group: Mapping[str, bytes], name: str, config: PicturesConfig, problems: Problems
) -> Iterator[FoundPicture]:
    found = next((suffix for suffix in PICTURE_SUFFIXES if suffix in group), None)
    if found is None:
        return
    inner = PurePosixPath(key)
    yield from _captioned(group[found], inner.parent.name, inner.name, group, f"{name}:{key}{found}", config, problems)


def _read_jsonl(path: Path, config: PicturesConfig, problems: Problems) -> Iterator[FoundPicture]:
    """Rows whose picture lies in the file's folder or below it."""
    root = path.parent.resolve()
    for number, line in lines(read_blocks(path, max_expansion=config.max_expansion), max_bytes=_CAPTION_BYTES):
        where = f"{readable(str(path))}, line {number}"
        if line is None:
            problems.add("line_too_long", where, f"more than {_CAPTION_BYTES:,} bytes")
            continue
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.add("broken_json", where, str(error))
            continue
        name = _image_of(row, config) if isinstance(row, dict) else None
        if not isinstance(name, str):
            problems.add("no_image", where, f'no path in "{config.image_field}", "file_name" or "file"')
            continue
        picture = _inside(root, config.image_root, name)
        if picture is None:
            problems.add("outside_the_folder", where, name[:100])
            continue
        yield from _row(row, partial(_loaded, picture, config, problems), where, config, problems)


def _image_of(row: Mapping[str, Any], config: PicturesConfig) -> Any:
    return next((row[key] for key in (config.image_field, "file_name", "file") if key in row), None)


def _inside(root: Path, below: str, name: str) -> Path | None:
    """The file, if it lies in the folder `root` or below it, links followed."""
    try:
        found = (root / below / name).resolve()
    except (OSError, ValueError, RuntimeError):
        return None
    return found if found.is_relative_to(root) else None


def _row(row: Mapping[str, Any], read: Any, where: str, config: PicturesConfig, problems: Problems) -> Iterator[Any]:
    caption = _caption_of(row, config)
    if not isinstance(caption, str) or not caption.strip():
        problems.add("no_caption", where, f'no text in "{config.caption_field}", "text" or "label"')
        return
    try:
        data = read()
    except (OSError, ValueError) as error:
        problems.add("unreadable", where, getattr(error, "strerror", None) or str(error))
        return
    if data is not None:
        yield FoundPicture(data, readable(caption.strip()), where, _kept(row, config))


def _read_parquet(path: Path, config: PicturesConfig, problems: Problems) -> Iterator[FoundPicture]:
    """Rows whose picture is bytes, a struct of bytes and path as Hugging Face's datasets write it, or a path."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    root = path.parent.resolve()
    try:
        file = ParquetFile(path)
        number = -1
        for batch in file.iter_batches(64, use_threads=False):
            for row in batch.to_pylist():
                number += 1
                where = f"{readable(str(path))}, row {number}"
                data = _bytes_of(_image_of(row, config), root, config.image_root)
                if data is None:
                    problems.add("no_image", where, f'neither bytes nor a path in "{config.image_field}"')
                elif isinstance(data, bytes) and len(data) > config.max_image_bytes:
                    problems.add("image_too_large", where, f"{len(data):,} bytes")
                else:
                    yield from _row(row, partial(_loaded, data, config, problems), where, config, problems)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        problems.add("damaged", str(path), str(error))


def _loaded(data: bytes | Path, config: PicturesConfig, problems: Problems) -> bytes | None:
    return data if isinstance(data, bytes) else _bounded(data, config, problems)


def _bytes_of(value: Any, root: Path, below: str) -> bytes | Path | None:
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    return _inside(root, below, value) if isinstance(value, str) else None
