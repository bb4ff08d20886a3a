"""Recognising the older forms, and what their JSON files add. Each form's ids are compared in its own test file."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import BertTokenizer

from bloomery.core.errors import DataError
from bloomery.tokenizer.published import convert, published_names
from bloomery.tokenizer.tokenizer import Tokenizer

VOCAB = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\niron\n##s\n"


def test_names(folder_of: Callable[..., Path]):
    folder = folder_of(vocab__txt=VOCAB, x__tiktoken=b"", added_tokens__json={}, README__md=b"")
    assert published_names(folder) == ["x.tiktoken", "vocab.txt", "added_tokens.json"]


def test_tokenizer_json_comes_first(ours: Path, folder_of: Callable[..., Path]):
    folder = folder_of(vocab__txt=b"\xff", tokenizer__json=(ours / "tokenizer.json").read_bytes())
    assert Tokenizer.load(folder).encode("Hello") == Tokenizer.load(ours).encode("Hello")


def test_a_folder_without_any_says_what_was_looked_for(tmp_path: Path):
    with pytest.raises(DataError, match=r"holds no tokenizer\.json") as caught:
        Tokenizer.load(tmp_path)
    assert "spiece.model" in caught.value.hint and "\n" not in caught.value.one_line()


def test_tokens_that_json_files_add(folder_of: Callable[..., Path]):
    config = {
        "tokenizer_class": "BertTokenizer",
        "additional_special_tokens": ["[Q]"],
        "added_tokens_decoder": {
            "7": {"content": "[Q]", "special": True},
            "8": {"content": "smelt", "special": False, "normalized": True},
        },
    }
    folder = folder_of(vocab__txt=VOCAB, tokenizer_config__json=config)
    tokenizer, reference = Tokenizer.load(folder), BertTokenizer.from_pretrained(folder)
    text = "[Q] iron smelt irons"
    assert tokenizer.encode(text, allow_special=True) == reference(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.encode("smelt") == [8] and 7 not in tokenizer.encode("[Q]")
    older = folder_of(vocab__txt=VOCAB, added_tokens__json={"smelt": 7}, special_tokens_map__json={"pad_token": "[P]"})
    tokenizer = Tokenizer.load(older)
    assert tokenizer.encode("smelt iron") == [7, 5] and tokenizer.pad_id == 8 and tokenizer.vocab_size == 9


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer_config.json": {"tokenizer_class": "BigBirdTokenizer"}}, "of class BigBirdTokenizer"),
        ({"config.json": {"model_type": "gpt2"}}, "cannot be read as a tokenizer of 'gpt2'"),
        ({"config.json": {"model_type": "mpnet"}}, "cannot be read as a tokenizer of 'mpnet'"),
        ({"tokenizer_config.json": {"added_tokens_decoder": {"x": "[Q]"}}}, "make no sense"),
        ({"tokenizer_config.json": {"added_tokens_decoder": {"5": {"content": "[Q]"}}}}, "make no sense"),
        ({"tokenizer_config.json": {"added_tokens_decoder": {"9999999999": {"content": "[Q]"}}}}, "make no sense"),
        ({"tokenizer_config.json": {"added_tokens_decoder": [1]}}, "make no sense"),
        ({"tokenizer_config.json": {"additional_special_tokens": 5}}, "make no sense"),
        ({"added_tokens.json": {"iron": 3}}, "vocabulary says 5"),
        ({"added_tokens.json": {"a": "b", "c": 1}}, "make no sense"),
    ],
)
def test_json_files_that_make_no_sense(files: dict, message: str):
    data = {name: json.dumps(content).encode() for name, content in files.items()}
    with pytest.raises(DataError, match=message) as caught:
        convert({"vocab.txt": VOCAB, **data}, "folder")
    assert "\n" not in caught.value.one_line()


def test_files_that_cannot_be_told_apart(published: Callable[[str], bytes]):
    with pytest.raises(DataError, match="does not say to which model") as caught:
        convert({"sentencepiece.bpe.model": published("spm_test_model.model")}, "folder")
    assert "config.json" in caught.value.hint
    with pytest.raises(DataError, match="several rank files"):
        convert({"a.tiktoken": b"", "b.tiktoken": b""}, "folder")
    with pytest.raises(DataError, match="not a SentencePiece model"):
        convert({"tokenizer.model": b"version https://git-lfs.github.com/spec/v1\n"}, "folder")


@pytest.mark.parametrize("packed", [b"", b"no gzip", gzip.compress(b"a b\n")[:-9], gzip.compress(bytes(1 << 27))])
def test_packed_files_are_bounded(packed: bytes):
    with pytest.raises(DataError, match=r"16e6\.txt\.gz is (damaged|cut off)"):
        convert({"bpe_simple_vocab_16e6.txt.gz": packed}, "folder")
