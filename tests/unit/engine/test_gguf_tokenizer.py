"""Tokenizers out of GGUF: the ids of the tokenizer that went in, and those of transformers' reading of the file.

That llama.cpp gives the same ids is tested in tests/golden/test_llama_cpp.py.
"""

from __future__ import annotations

import io
import json
import runpy
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from bloomery.core.errors import BloomeryError, ConfigError, DataError
from bloomery.engine.gguf_file import export_gguf
from bloomery.engine.gguf_reader import GgufContents, read_gguf
from bloomery.engine.gguf_tokenizer import end_ids, special_ids, tokenizer_files
from bloomery.tokenizer import Tokenizer

models = runpy.run_path(str(Path(__file__).parents[2] / "gguf_models.py"))
TEXTS = [
    "Once upon a time, 1234 times",
    "  two spaces\n\n\tEs glüht über Nacht: 火 🔥 ",
    "don't WE'LL 3.14159 <0x41> <s> <|im_end|>",
    "",
    " a",
    "a  b   c",
]


def _read(path: Path, **options: bool) -> Tokenizer:
    return Tokenizer(tokenizer_files(read_gguf(path), **options), source=str(path))


def _same(ours: Tokenizer, other: Tokenizer) -> None:
    for text in TEXTS:
        for special in (False, True):
            ids = other.encode(text, allow_special=special)
            assert ours.encode(text, allow_special=special) == ids, text
            assert ours.decode(ids) == other.decode(ids)
        assert ours.encode_with_special(text) == other.encode_with_special(text)
    assert (ours.bos_id, ours.pad_id, ours.adds_bos) == (other.bos_id, other.pad_id, other.adds_bos)
    assert ours.special_ids == other.special_ids and ours.vocab_size == other.vocab_size


def test_byte_pairs(tiny_folder: Path, tmp_path: Path):
    path = export_gguf(tiny_folder, tmp_path / "m.gguf")
    ours, other = _read(path), Tokenizer.load(tiny_folder)
    _same(ours, other)
    template = ours.chat_template and ours.chat_template.source
    assert template == (other.chat_template and other.chat_template.source)
    ids, notes = special_ids(read_gguf(path))
    assert ids["bos_token"] == other.bos_id and not notes and end_ids(read_gguf(path)) == other.eos_ids[:1]


@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe", "qwen2", "smollm", "tekken", "gpt-4o", "bloom"])
def test_every_kind_of_split_as_transformers_reads_it(pre: str, tiny_folder: Path, tmp_path: Path):
    """Its GGUF reader takes the pattern from the architecture, so the names are told to the library by hand."""
    from tokenizers import Tokenizer as Backend

    path = export_gguf(tiny_folder, tmp_path / "m.gguf")
    ours = _read(models["rewritten"](path, tmp_path / "other.gguf", tokenizer__ggml__pre=pre))
    described: dict[str, Any] = json.loads((tiny_folder / "tokenizer.json").read_text())
    described["pre_tokenizer"] = ours.description["pre_tokenizer"]
    described["model"]["ignore_merges"] = pre in ("llama-bpe", "tekken")
    backend = Backend.from_str(json.dumps(described))
    backend.encode_special_tokens = True
    for text in TEXTS:
        assert ours.encode(text) == backend.encode(text, add_special_tokens=False).ids


@pytest.fixture(params=[True, False], ids=["a space before a text", "none"])
def pieces(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A llama with a tokenizer that SentencePiece has trained: bytes, user-defined pieces, control pieces."""
    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(
            ["a small furnace that smelted iron", "Ein kleiner Ofen glüht Once upon two times"] * 20
        ),
        model_writer=out,
        vocab_size=360,
        model_type="bpe",
        byte_fallback=True,
        user_defined_symbols=["<tool>"],
        control_symbols=["<turn>"],
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=request.param,
        minloglevel=2,
    )
    source = tmp_path / "pieces"
    source.mkdir()
    (source / "tokenizer.model").write_bytes(out.getvalue())
    (source / "config.json").write_text('{"model_type": "llama"}')
    return models["random_model"](tmp_path / "model", "llama", tokenizer=source)


def test_sentence_pieces(pieces: Path, tmp_path: Path):
    import sentencepiece
    from transformers import AutoTokenizer

    path = export_gguf(pieces, tmp_path / "m.gguf")
    ours = _read(path)
    _same(ours, Tokenizer.load(pieces))
    source = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "pieces" / "tokenizer.model"))
    for text in ("a small iron furnace", "Es glüht 火"):
        assert ours.encode(text) == source.encode(text)
    if ours.encode("a") == [source.piece_to_id("▁a")]:  # transformers gives every Llama a space
        theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)
        for text in ("Once upon a time", "Es glüht: 火", "a small iron"):
            assert ours.encode(text, add_bos=ours.adds_bos) == theirs(text)["input_ids"]


def test_gemmas_turns_are_special(pieces: Path, tmp_path: Path):
    path = export_gguf(pieces, tmp_path / "m.gguf")
    contents = read_gguf(path)
    tokens = contents.values["tokenizer.ggml.tokens"]
    place = next(n for n in range(300, 360) if contents.values["tokenizer.ggml.token_type"][n] == 1)
    tokens[place] = "<start_of_turn>"
    files = tokenizer_files(contents, gemma=True)
    assert place in Tokenizer(files, source="m").special_ids


def test_unused_pieces(tiny_folder: Path, tmp_path: Path):
    """Those at the end fill up the embedding; one between others keeps its id and is never written."""
    contents = read_gguf(export_gguf(tiny_folder, tmp_path / "m.gguf"))
    count = len(contents.values["tokenizer.ggml.tokens"])
    contents.values["tokenizer.ggml.tokens"] += ["[PAD1]", "[PAD2]"]
    types = contents.values["tokenizer.ggml.token_type"]
    contents.values["tokenizer.ggml.token_type"] = np.append(types, [5, 5]).astype(np.int32)
    assert Tokenizer(tokenizer_files(contents), source="m").vocab_size == count
    contents.values["tokenizer.ggml.eos_token_id"] = count
    ids, notes = special_ids(contents)
    assert "eos_token" not in ids and "eos_token has the id" in notes[0] and end_ids(contents) == ()


def test_lists_that_make_no_tokenizer(tiny_folder: Path, tmp_path: Path):
    path = export_gguf(tiny_folder, tmp_path / "m.gguf")

    def changed(**values: Any) -> GgufContents:
        contents = read_gguf(path)
        contents.values.update({f"tokenizer.ggml.{key}": value for key, value in values.items()})
        return contents

    tokens = read_gguf(path).values["tokenizer.ggml.tokens"]
    cases: list[tuple[dict[str, Any], type[BloomeryError], str]] = [
        ({"model": "bert"}, ConfigError, "kind 'bert'"),
        ({"model": 3}, DataError, "should be a text"),
        ({"pre": "unheard-of"}, ConfigError, "unheard-of"),
        ({"tokens": []}, DataError, "no list of tokens"),
        ({"tokens": [*tokens[:-1], tokens[0]]}, DataError, "same text"),
        ({"token_type": np.full(len(tokens), 99)}, DataError, "unknown"),
        ({"token_type": np.ones(3, np.int32)}, DataError, "list of"),
        ({"token_type": "x"}, DataError, "list of"),
        ({"merges": ["a"]}, DataError, "pairs"),
        ({"merges": ["nothing known"]}, DataError, "pairs"),
        ({"merges": 7}, DataError, "pairs"),
        ({"add_bos_token": 1}, DataError, "true or false"),
        ({"bos_token_id": "x"}, DataError, "whole number"),
        ({"model": "llama"}, DataError, "scores"),
    ]
    for values, error, word in cases:
        with pytest.raises(error, match=word) as caught:
            tokenizer_files(changed(**values))
        assert caught.value.hint and "\n" not in caught.value.one_line()
    assert gguf.TokenType.BYTE == 6
