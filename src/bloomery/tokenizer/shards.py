"""Token shards: documents as flat, memory-mapped arrays of token ids.

    tokens.json                what is where (see `ShardWriter.close`)
    train-00000.bin, ...       token ids, little-endian uint16, or uint32 for more than 65,536 ids
    train-offsets.npy          int64 (documents + 1,): where each document's tokens begin, over all shards
    train-bytes.npy            int64 (documents + 1,): the UTF-8 bytes of text before each document

A document is BOS and its tokens. Where the end of a document has an id of its own (Llama's `</s>`) that follows;
otherwise (`<|endoftext|>` is both) the BOS of the next document ends it, and one more BOS closes every shard, so
that the end marker of any document can be read as its last label. No document is spread over two shards.

This module does not know text, tokenizers or batches.
"""

from __future__ import annotations

import contextlib
import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bloomery.core.artifact import Artifact
from bloomery.core.errors import DataError

META = "tokens.json"
FORMAT = 1
_SHARD_BYTES = 256 * 1024 * 1024
_MAX_META_BYTES = 16 * 1024 * 1024
_DAMAGED = "restore it from a copy, or run `bloomery tokenize` again"


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest of little-endian uint16 and uint32 that holds every id."""
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


@dataclass
class _Split:
    """What has been written of one split so far."""

    offsets: array[int]
    text_bytes: array[int]
    shards: list[dict[str, Any]]
    stream: BinaryIO | None = None


class ShardWriter:
    """Writes documents into shards, in the order given; memory grows by 16 bytes a document.

    `end_id` is appended to a document unless it equals `bos_id`. Call `close()` to write the offsets and
    tokens.json. As a context manager it lets go of its open files when something fails in between.
    """

    def __init__(
        self,
        folder: Path,
        *,
        vocab_size: int,
        bos_id: int,
        end_id: int,
        tokenizer_id: str = "",
        shard_bytes: int = _SHARD_BYTES,
    ) -> None:
        self.folder = folder
        self.vocab_size = vocab_size
        self.bos_id = bos_id
        self.end_id = end_id
        self.tokenizer_id = tokenizer_id
        self.dtype = token_dtype(vocab_size)
        self.shard_bytes = shard_bytes
        self._splits: dict[str, _Split] = {}

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for state in self._splits.values():
            if state.stream is not None:
                with contextlib.suppress(OSError):  # the disk is full: the first error says so
                    state.stream.close()

    def begin(self, split: str) -> None:
        """Name a split, so that it exists even if no document follows."""
        self._splits.setdefault(split, _Split(array("q", [0]), array("q", [0]), []))

    def add(self, split: str, ids: Sequence[int], *, text_bytes: int) -> None:
        """Write one document's tokens, without BOS and end, and count the UTF-8 bytes of its text."""
        self.begin(split)
        state = self._splits[split]
        tail = () if self.end_id == self.bos_id else (self.end_id,)
        tokens = np.array([self.bos_id, *ids, *tail], dtype=np.int64)
        if tokens.min() < 0 or tokens.max() >= self.vocab_size:
            raise DataError(f"token id {int(tokens.max())} is outside the vocabulary of {self.vocab_size}")
        if state.stream is None:
            name = f"{split}-{len(state.shards):05d}.bin"
            state.stream = (self.folder / name).open("wb")
            state.shards.append({"file": name, "documents": 0, "tokens": 0})
        state.stream.write(tokens.astype(self.dtype).tobytes())
        shard = state.shards[-1]
        shard["documents"] += 1
        shard["tokens"] += len(tokens)
        state.offsets.append(state.offsets[-1] + len(tokens))
        state.text_bytes.append(state.text_bytes[-1] + text_bytes)
        if shard["tokens"] * self.dtype.itemsize >= self.shard_bytes:
            self._end_shard(state)

    def close(self) -> dict[str, dict[str, int]]:
        """Finish every file; returns {split: {documents, tokens, text_bytes}}."""
        splits: dict[str, Any] = {}
        for split, state in self._splits.items():
            self._end_shard(state)
            np.save(self.folder / f"{split}-offsets.npy", np.array(state.offsets, dtype="<i8"), allow_pickle=False)
            np.save(self.folder / f"{split}-bytes.npy", np.array(state.text_bytes, dtype="<i8"), allow_pickle=False)
            splits[split] = {
                "documents": len(state.offsets) - 1,
                "tokens": state.offsets[-1],
                "text_bytes": state.text_bytes[-1],
                "shards": state.shards,
            }
        meta = {
            "format": FORMAT,
            "dtype": self.dtype.name,
            "vocab_size": self.vocab_size,
            "bos_id": self.bos_id,
            "end_id": self.end_id,
            "tokenizer": self.tokenizer_id,
            "splits": splits,
        }
        (self.folder / META).write_text(json.dumps(meta, indent=1), encoding="utf-8")
        return {name: {key: value for key, value in split.items() if key != "shards"} for name, split in splits.items()}

    def _end_shard(self, state: _Split) -> None:
        if state.stream is not None:
            state.stream.write(np.array([self.bos_id], dtype=self.dtype).tobytes())
            state.stream.close()
            state.stream = None


class TokenShards:
    """One split of a tokens artifact, memory-mapped and read-only.

    Raises DataError, naming the file, when a file is missing, truncated or disagrees with tokens.json.
    """

    def __init__(self, source: Artifact | str | Path, split: str) -> None:
        self.folder = source.path if isinstance(source, Artifact) else Path(source)
        self.split = split
        meta = _read_meta(self.folder)
        if split not in meta["splits"]:
            known = ", ".join(meta["splits"])
            raise DataError(f"{self.folder} has no split {split!r}", hint=f"it has: {known}")
        try:
            self._open(meta, meta["splits"][split])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{self.folder / META} is damaged: {error}", hint=_DAMAGED) from error

    def _open(self, meta: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
        self.vocab_size = int(meta["vocab_size"])
        self.bos_id = int(meta["bos_id"])
        self.end_id = int(meta["end_id"])
        self.tokenizer_id = str(meta["tokenizer"])
        self.dtype = token_dtype(self.vocab_size)
        self.num_documents = int(entry["documents"])
        self.num_tokens = int(entry["tokens"])
        self.text_bytes = int(entry["text_bytes"])
        self.offsets = self._cumulative(f"{self.split}-offsets.npy", self.num_tokens)
        self.bytes_before = self._cumulative(f"{self.split}-bytes.npy", self.text_bytes)
        self._files = [str(shard["file"]) for shard in entry["shards"]]
        documents = [0, *np.cumsum([int(shard["documents"]) for shard in entry["shards"]]).tolist()]
        if documents[-1] != self.num_documents:
            raise DataError(f"{self.folder / META} is damaged: its documents do not add up", hint=_DAMAGED)
        self._first_document = np.array(documents, dtype=np.int64)
        self._data: list[np.ndarray] = []
        for index, shard in enumerate(entry["shards"]):
            first, last = documents[index], documents[index + 1]
            tokens = int(self.offsets[last] - self.offsets[first])
            if tokens != int(shard["tokens"]):
                raise DataError(f"{self.folder / META} is damaged: its tokens do not add up", hint=_DAMAGED)
            self._data.append(self._map(self._files[index], tokens + 1))

    @property
    def label_tail(self) -> int:
        """1 if the BOS that follows a document is its end marker, 0 if the document holds its own end."""
        return 1 if self.end_id == self.bos_id else 0

    def num_labels(self) -> np.ndarray:
        """int64 (documents,): how many tokens of each document are to be predicted, its end marker included."""
        return np.diff(self.offsets) - 1 + self.label_tail

    def document(self, index: int) -> np.ndarray:
        """The tokens of a document, BOS first: a view of the file, uint16 or uint32."""
        shard, start = self._locate(index)
        return self._data[shard][start : start + int(self.offsets[index + 1] - self.offsets[index])]

    def document_bytes(self, index: int) -> int:
        """The UTF-8 bytes of a document's text."""
        return int(self.bytes_before[index + 1] - self.bytes_before[index])

    def labels(self, index: int, start: int, stop: int) -> np.ndarray:
        """What is to be predicted at positions start to stop of a document: its tokens from the second on.

        Position 0 predicts the first token after BOS, the last position the end marker. A view of the file.
        """
        shard, first = self._locate(index)
        return self._data[shard][first + 1 + start : first + 1 + stop]

    def check(self) -> None:
        """Read every token; DataError naming the file that holds an id outside the vocabulary."""
        for name, data in zip(self._files, self._data, strict=True):
            for block in range(0, len(data), 1 << 24):
                highest = int(data[block : block + (1 << 24)].max())
                if highest >= self.vocab_size:
                    raise DataError(
                        f"{self.folder / name} is damaged: token id {highest} in a vocabulary of {self.vocab_size}",
                        hint=_DAMAGED,
                    )

    def _locate(self, index: int) -> tuple[int, int]:
        if not 0 <= index < self.num_documents:
            raise IndexError(f"document {index} of {self.num_documents}")
        shard = 0
        if len(self._data) > 1:
            shard = int(np.searchsorted(self._first_document, index, side="right")) - 1
        return shard, int(self.offsets[index] - self.offsets[self._first_document[shard]])

    def _map(self, name: str, count: int) -> np.ndarray:
        path = _inside(self.folder, name)
        expected = count * self.dtype.itemsize
        try:
            size = path.stat().st_size
            if size != expected:
                raise DataError(f"{path} has {size:,} bytes, not {expected:,}: it is truncated", hint=_DAMAGED)
            # A plain view: slicing np.memmap itself costs several times as much.
            return np.memmap(path, dtype=self.dtype, mode="r").view(np.ndarray)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}", hint=_DAMAGED) from error

    def _cumulative(self, name: str, total: int) -> np.ndarray:
        path = _inside(self.folder, name)
        try:
            values = np.load(path, mmap_mode="r", allow_pickle=False)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}", hint=_DAMAGED) from error
        except (ValueError, EOFError) as error:
            raise DataError(f"{path} is damaged: {error}", hint=_DAMAGED) from error
        if values.shape != (self.num_documents + 1,) or values.dtype != np.dtype("<i8"):
            raise DataError(f"{path} is damaged: its shape does not fit {META}", hint=_DAMAGED)
        if values[0] != 0 or values[-1] != total or bool((np.diff(values) < 0).any()):
            raise DataError(f"{path} is damaged: its numbers do not fit {META}", hint=_DAMAGED)
        return values.view(np.ndarray)


def _inside(folder: Path, name: str) -> Path:
    if Path(name).name != name:
        raise DataError(f"{folder / META} names a file outside its folder: {name!r}")
    return folder / name


def _read_meta(folder: Path) -> dict[str, Any]:
    path = folder / META
    try:
        if path.stat().st_size > _MAX_META_BYTES:
            raise DataError(f"{path} is too large to describe shards")
        meta = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{folder} holds no tokens: it has no {META}", hint="make them: bloomery tokenize") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {error}", hint=_DAMAGED) from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT or not isinstance(meta.get("splits"), dict):
        raise DataError(f"{path} has a format that this version does not read", hint="upgrade bloomery")
    return meta
