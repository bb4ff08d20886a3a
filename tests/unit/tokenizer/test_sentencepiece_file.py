"""Reading SentencePiece model files: what `sentencepiece` says of the same file, and no crash for any bytes."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import DataError
from bloomery.tokenizer.sentencepiece_file import ModelType, PieceType, read_sentencepiece


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return bytes([number << 3, content])
    return bytes([number << 3 | 2, len(content)]) + content


def piece(text: bytes, kind: int, score: float = 0.0) -> bytes:
    return field(1, field(1, text) + b"\x15" + struct.pack("<f", score) + field(3, kind))


SMALL = piece(b"<unk>", 2) + piece(b"<s>", 3) + piece(b"a", 1, -1.5) + b"\x12\x02\x18\x02" + field(3, field(3, 0))


def test_every_field_is_what_sentencepiece_says(published: Callable[[str], bytes]):
    data = published("spm_test_model.model")
    file, reference = read_sentencepiece(data, "x"), sentencepiece.SentencePieceProcessor(model_proto=data)
    count = reference.get_piece_size()
    assert [piece.text for piece in file.pieces] == [reference.id_to_piece(index) for index in range(count)]
    assert [piece.score for piece in file.pieces] == [reference.get_score(index) for index in range(count)]
    control = [index for index, piece in enumerate(file.pieces) if piece.type is PieceType.CONTROL]
    assert control == [index for index in range(count) if reference.is_control(index)]
    assert (file.unk_id, file.bos_id, file.eos_id, file.pad_id) == (0, 1, 2, -1)
    assert file.model_type is ModelType.UNIGRAM and not file.byte_fallback and file.normalizer == "nfkc"
    assert file.add_dummy_prefix and file.remove_extra_whitespaces and len(file.precompiled_charsmap) > 200_000


def test_a_small_file_by_hand():
    file = read_sentencepiece(SMALL, "x")
    assert [(piece.text, piece.type.name) for piece in file.pieces] == [
        ("<unk>", "UNKNOWN"),
        ("<s>", "CONTROL"),
        ("a", "NORMAL"),
    ]
    assert file.pieces[2].score == -1.5 and file.model_type is ModelType.BPE and not file.add_dummy_prefix
    assert (file.bos_id, file.eos_id) == (1, 2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no pieces"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not a SentencePiece model"),
        (SMALL[:-1], "runs over its end"),
        (SMALL + b"\x0a", "cut off"),
        (SMALL + b"\x0b", "wire type 3"),
        (SMALL + b"\xff" * 11, "without end"),
        (SMALL + piece(b"a", 1), "twice"),
        (SMALL + piece(b"b", 2), "2 unknown pieces"),
        (SMALL + piece(b"b", 9), "not a SentencePiece model"),
        (SMALL + piece(b"", 1), "piece 3 is empty"),
        (SMALL + piece(b"b", 1, math.nan), "has no score"),
        (SMALL + piece(b"\xff", 1), "not a SentencePiece model"),
        (SMALL + field(1, 5), "number where text"),
        (SMALL + field(2, field(3, 7)), "not a SentencePiece model"),
        (SMALL + field(2, field(3, b"x")), "text where a number"),
    ],
)
def test_damaged_files_are_one_line(data: bytes, message: str):
    with pytest.raises(DataError, match=message) as caught:
        read_sentencepiece(data, "spiece.model")
    assert "spiece.model" in caught.value.message and "\n" not in caught.value.one_line()


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_bytes_are_a_model_or_one_line(data: st.DataObject):
    content = bytearray(data.draw(st.one_of(st.just(SMALL), st.binary(max_size=80))))
    for _ in range(data.draw(st.integers(0, 4)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert read_sentencepiece(bytes(content), "x").pieces
    except DataError as error:
        assert "\n" not in error.one_line()
