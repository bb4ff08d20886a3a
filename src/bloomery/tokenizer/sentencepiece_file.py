"""Reading and writing a SentencePiece model file (Kudo and Richardson, 2018, arXiv:1808.06226), a protobuf message.

The `sentencepiece` package reads these fields only with Google's protobuf library beside it. A dozen fields need
neither: the wire format is tags, lengths and numbers, and this reader checks every one against the file's bounds.
Fields that it does not know are skipped, as protobuf demands. This module does not know how text is encoded.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from bloomery.core.errors import DataError
from bloomery.tokenizer.description import MAX_VOCAB_SIZE

_MAX_PIECE_CHARACTERS = 512
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class PieceType(IntEnum):
    """What a piece is for."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class ModelType(IntEnum):
    """The algorithm of a model."""

    UNIGRAM = 1
    BPE = 2
    WORD = 3
    CHAR = 4


@dataclass(frozen=True, kw_only=True)
class Piece:
    text: str
    score: float
    type: PieceType


@dataclass(frozen=True, kw_only=True)
class SentencePieceFile:
    """What a model file says. Ids are places in `pieces`; bos_id, eos_id and pad_id may be -1: there is none."""

    pieces: tuple[Piece, ...]
    model_type: ModelType
    byte_fallback: bool
    treat_whitespace_as_suffix: bool
    unk_id: int
    bos_id: int
    eos_id: int
    pad_id: int
    normalizer: str
    precompiled_charsmap: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    escape_whitespaces: bool


def read_sentencepiece(data: bytes, where: str) -> SentencePieceFile:
    """The model of a file's bytes. DataError, in one line, if it is not one."""
    try:
        return _model(data)
    except (_DamagedError, ValueError) as error:  # ValueError: text that is not UTF-8, an unknown type
        hint = "copy the file again, and check that it is no Git LFS pointer"
        raise DataError(f"{where} is not a SentencePiece model: {error}", hint=hint) from error


class _DamagedError(Exception):
    pass


def _model(data: bytes) -> SentencePieceFile:
    pieces: list[Piece] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for field, value in _fields(data):
        if field == 1:
            if len(pieces) >= MAX_VOCAB_SIZE:
                raise _DamagedError(f"it holds more than {MAX_VOCAB_SIZE:,} pieces")
            pieces.append(_piece(_as_bytes(value), len(pieces)))
        elif field == 2:
            trainer |= dict(_fields(_as_bytes(value)))
        elif field == 3:
            normalizer |= dict(_fields(_as_bytes(value)))
    if not pieces:
        raise _DamagedError("it holds no pieces")
    if len({piece.text for piece in pieces}) < len(pieces):
        raise _DamagedError("a piece occurs twice")
    unknown = [index for index, piece in enumerate(pieces) if piece.type is PieceType.UNKNOWN]
    if len(unknown) != 1:
        raise _DamagedError(f"it holds {len(unknown)} unknown pieces, not one")

    def named(field: int, default: int) -> int:
        """An id that the trainer names, or -1 where it lies outside the pieces."""
        index = _as_signed(trainer.get(field, default))
        return index if 0 <= index < len(pieces) else -1

    return SentencePieceFile(
        pieces=tuple(pieces),
        model_type=ModelType(_as_signed(trainer.get(3, 1))),
        byte_fallback=_flag(trainer, 35, False),
        treat_whitespace_as_suffix=_flag(trainer, 24, False),
        unk_id=unknown[0],
        bos_id=named(41, 1),
        eos_id=named(42, 2),
        pad_id=named(43, -1),
        normalizer=_as_bytes(normalizer.get(1, b"")).decode("utf-8"),
        precompiled_charsmap=_as_bytes(normalizer.get(2, b"")),
        add_dummy_prefix=_flag(normalizer, 3, True),
        remove_extra_whitespaces=_flag(normalizer, 4, True),
        escape_whitespaces=_flag(normalizer, 5, True),
    )


def _piece(data: bytes, index: int) -> Piece:
    fields = dict(_fields(data))
    text = _as_bytes(fields.get(1, b"")).decode("utf-8")
    raw = _as_bytes(fields.get(2, b"\0\0\0\0"))
    score = struct.unpack("<f", raw)[0] if len(raw) == 4 else math.nan
    if not text or len(text) > _MAX_PIECE_CHARACTERS or not math.isfinite(score):
        raise _DamagedError(f"piece {index} is empty, too long or has no score")
    return Piece(text=text, score=score, type=PieceType(_as_signed(fields.get(3, 1))))


def write_sentencepiece(file: SentencePieceFile) -> bytes:
    """The bytes of a model file that says the same; read again, it is equal."""
    pieces = b"".join(
        _message(
            1,
            _message(1, piece.text.encode())
            + _tag(2, _FIXED32)
            + struct.pack("<f", piece.score)
            + (b"" if piece.type is PieceType.NORMAL else _number(3, piece.type)),
        )
        for piece in file.pieces
    )
    named = ((40, file.unk_id, 45), (41, file.bos_id, 46), (42, file.eos_id, 47), (43, file.pad_id, 48))
    trainer = (
        _number(3, file.model_type)
        + _number(4, len(file.pieces))
        + _number(24, file.treat_whitespace_as_suffix)
        + _number(35, file.byte_fallback)
        + b"".join(_number(field, index) for field, index, _ in named)
        + b"".join(_message(field, file.pieces[index].text.encode()) for _, index, field in named if index >= 0)
    )
    normalizer = (
        _message(1, file.normalizer.encode())
        + _message(2, file.precompiled_charsmap)
        + _number(3, file.add_dummy_prefix)
        + _number(4, file.remove_extra_whitespaces)
        + _number(5, file.escape_whitespaces)
    )
    return pieces + _message(2, trainer) + _message(3, normalizer)


def _tag(field: int, kind: int) -> bytes:
    return _as_varint(field << 3 | kind)


def _number(field: int, value: int) -> bytes:
    return _tag(field, _VARINT) + _as_varint(int(value) & (1 << 64) - 1)


def _message(field: int, data: bytes) -> bytes:
    return _tag(field, _BYTES) + _as_varint(len(data)) + data


def _as_varint(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of every field of a message; fixed-size numbers come as their bytes."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == _VARINT:
            number, position = _varint(data, position)
            yield tag >> 3, number
            continue
        if kind == _BYTES:
            size, position = _varint(data, position)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise _DamagedError(f"it has a field of wire type {kind} at byte {position}")
        if size > len(data) - position:
            raise _DamagedError(f"a field runs over its end at byte {position}")
        yield tag >> 3, data[position : position + size]
        position += size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number of at most ten bytes and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise _DamagedError("it is cut off")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, position
    raise _DamagedError(f"it has a number without end at byte {position}")


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise _DamagedError("it has a number where text should be")
    return value


def _as_signed(value: int | bytes) -> int:
    """A 32-bit number as protobuf writes it: a negative one is stored in 64 bits."""
    if isinstance(value, bytes):
        raise _DamagedError("it has text where a number should be")
    return value - (1 << 64) if value >= 1 << 63 else value


def _flag(fields: dict[int, int | bytes], field: int, default: bool) -> bool:
    return bool(_as_signed(fields.get(field, default)))
