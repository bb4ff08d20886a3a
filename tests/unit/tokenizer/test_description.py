"""The parts of a tokenizer.json: what the library reads back from them."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import pre_tokenizers

from bloomery.core.errors import DataError
from bloomery.tokenizer.description import (
    added_token,
    byte_level_alphabet,
    decode_text,
    described,
    parse_object,
    template,
    text_of,
)


def test_the_byte_alphabet_is_the_librarys():
    alphabet = byte_level_alphabet()
    assert set(alphabet) == set(pre_tokenizers.ByteLevel.alphabet()) and sorted(alphabet.values()) == list(range(256))


def test_a_description_is_a_tokenizer():
    vocab = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "iron": 3}
    cls, sep = ("[CLS]", 0), ("[SEP]", 0)
    model = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": vocab,
    }
    backend = Backend.from_str(
        json.dumps(
            described(
                model,
                added_tokens=[added_token("[CLS]", 1)],
                pre_tokenizer={"type": "BertPreTokenizer"},
                post_processor=template([cls, ("A", 0), sep], [cls, ("A", 0), sep, ("B", 1), ("[SEP]", 1)], vocab),
            )
        )
    )
    encoded = backend.encode("iron", "iron iron")
    assert encoded.ids == [1, 3, 2, 3, 3, 2] and encoded.type_ids == [0, 0, 0, 1, 1, 1]
    assert backend.get_added_tokens_decoder()[1].special


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 10**5])
def test_damaged_json_is_one_line(data: bytes):
    with pytest.raises(DataError, match=r"x\.json is damaged"):
        parse_object(data, "x.json")


def test_text():
    assert decode_text("é".encode(), "x") == "é"
    with pytest.raises(DataError, match="byte 1"):
        decode_text(b"a\xff", "x")
    assert [text_of(token) for token in ("<s>", {"content": "<s>"}, None, 3, {})] == ["<s>", "<s>", "", "", ""]
