"""GGUF vocabularies: what each kind of tokenizer becomes; SentencePiece's own scores give the same order of merges.

That llama.cpp gives the same ids is tested in tests/golden/test_llama_cpp.py.
"""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import gguf
import pytest

from bloomery.core.errors import ConfigError
from bloomery.engine.gguf_vocabulary import write_vocabulary
from bloomery.tokenizer import Tokenizer


class Written:
    """Stands where the library's writer would: keeps what it is told."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("add_"):
            raise AttributeError(name)

        def keep(*values: Any) -> None:
            self.said[name.removeprefix("add_") if len(values) == 1 else values[0]] = values[-1]

        return keep


def written(tokenizer: Tokenizer, rows: int | None = None, *, eos_id: int = 2, **options: bool) -> dict[str, Any]:
    writer = Written()
    write_vocabulary(gguf, writer, tokenizer, rows=rows or tokenizer.vocab_size, eos_id=eos_id, **options)
    return writer.said


def _changed(source: Path, target: Path, **parts: Any) -> Tokenizer:
    described = json.loads((source / "tokenizer.json").read_text()) | parts
    target.mkdir()
    (target / "tokenizer.json").write_text(json.dumps(described))
    return Tokenizer.load(target)


def test_split_patterns(tiny_folder: Path, tmp_path: Path):
    described = json.loads((tiny_folder / "tokenizer.json").read_text())
    whole = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    digits = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, whole]}
    cases: list[tuple[str, dict[str, Any]]] = [
        ("dbrx", {}),
        ("llama-bpe", {"model": described["model"] | {"ignore_merges": True}}),
        ("gpt-2", {"pre_tokenizer": whole, "normalizer": {"type": "NFC"}}),
        ("smollm", {"pre_tokenizer": digits}),
    ]
    for number, (name, parts) in enumerate(cases):
        assert written(_changed(tiny_folder, tmp_path / str(number), **parts))["tokenizer_pre"] == name
    for number, parts in enumerate(
        [
            {"pre_tokenizer": whole | {"add_prefix_space": True}},
            {"normalizer": {"type": "Lowercase"}},
            {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [whole, whole]}},
        ]
    ):
        with pytest.raises(ConfigError, match="split pattern"):
            written(_changed(tiny_folder, tmp_path / f"no{number}", **parts))


def test_rows_beyond_the_vocabulary(tiny_folder: Path):
    tokenizer = Tokenizer.load(tiny_folder)
    said = written(tokenizer, tokenizer.vocab_size + 3)
    assert said["token_types"][-3:] == [gguf.TokenType.UNUSED] * 3 and len(set(said["token_list"])) == len(
        said["token_list"]
    )


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece(prefix: bool, tmp_path: Path):
    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a small furnace that smelted iron", "Ein kleiner Ofen glüht"] * 20),
        model_writer=out,
        vocab_size=330,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=prefix,
        minloglevel=2,
    )
    (tmp_path / "tokenizer.model").write_bytes(out.getvalue())
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    reference = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    tokenizer = Tokenizer.load(tmp_path)
    said = written(tokenizer)
    count = reference.get_piece_size()
    assert said["tokenizer_model"] == "llama" and said["add_space_prefix"] is prefix
    assert said["token_list"] == [reference.id_to_piece(n) for n in range(count)]
    assert [kind == gguf.TokenType.BYTE for kind in said["token_types"]] == [reference.is_byte(n) for n in range(count)]
    assert said["token_types"][reference.unk_id()] == gguf.TokenType.UNKNOWN == 2
    # The pieces that merging makes, best first, as SentencePiece scores them.
    pieces = [n for n in range(count) if said["token_scores"][n] > -1e8]
    assert len(pieces) > 30
    by_ours = sorted(pieces, key=lambda n: -said["token_scores"][n])
    assert by_ours == sorted(pieces, key=lambda n: -reference.get_score(n))


def test_word_pieces_and_what_there_is_no_code_for(tmp_path: Path):
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "iron", "##s", "a"]))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    said = written(Tokenizer.load(tmp_path), encloses=True)
    assert said["token_list"] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "▁iron", "s", "▁a"]
    assert (said["bos_token_id"], said["sep_token_id"], said["unk_token_id"]) == (2, 3, 1)
    assert said["tokenizer.ggml.normalizer.lowercase"] is True
    out = tmp_path / "unigram"
    out.mkdir()
    model = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]], "byte_fallback": True}
    (out / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))
    with pytest.raises(ConfigError, match="Unigram"):
        written(Tokenizer.load(out))


@pytest.mark.parametrize("published", [False, True], ids=["spiece.model", "tokenizer.json as transformers writes it"])
@pytest.mark.parametrize("plain", [False, True], ids=["as T5's", "spaces kept"])
def test_unigram(published: bool, plain: bool, tmp_path: Path, shared_data: Path):
    """Pieces, scores, kinds, and what is done to spaces, as SentencePiece's own reader says them."""
    import sentencepiece

    with gzip.open(shared_data / "multi30k" / "val.en.gz", "rt", encoding="utf-8") as file:
        text = file.read().splitlines()
    out = io.BytesIO()
    settings = {"remove_extra_whitespaces": False, "add_dummy_prefix": False} if plain else {}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_writer=out,
        vocab_size=500,
        model_type="unigram",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
        **settings,
    )
    (tmp_path / "spiece.model").write_bytes(out.getvalue())
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    reference = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    if published:
        from transformers import T5Tokenizer

        if plain:
            pytest.skip("transformers writes every T5 as the published ones are")
        T5Tokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
        (tmp_path / "spiece.model").unlink()
    tokenizer = Tokenizer.load(tmp_path)
    said = written(tokenizer, eos_id=1, ends=True)
    count = reference.get_piece_size()
    assert said["tokenizer_model"] == "t5"
    assert said["token_list"][:count] == [reference.id_to_piece(index) for index in range(count)]
    scores = [reference.get_score(index) for index in range(count)]
    assert said["token_scores"][:count] == pytest.approx(scores, abs=1e-5)
    assert [said["token_types"][n] for n in range(4)] == [
        gguf.TokenType.CONTROL,
        gguf.TokenType.CONTROL,
        gguf.TokenType.UNKNOWN,
        gguf.TokenType.NORMAL,
    ]
    assert said["token_list"][-1] == "<extra_id_0>" and said["token_types"][-1] == gguf.TokenType.CONTROL
    assert said["add_space_prefix"] is not plain and said["remove_extra_whitespaces"] is not plain
    assert said["precompiled_charsmap"] and not said["add_bos_token"] and said["add_eos_token"]
    assert said["eos_token_id"] == 1 and said["unk_token_id"] == 2
