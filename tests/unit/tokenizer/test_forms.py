"""Tokenizers in SentencePiece's and tiktoken's files: the libraries that the forms come from give our ids."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import sentencepiece
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import DataError
from bloomery.tokenizer.extend import ExtendConfig, extend
from bloomery.tokenizer.forms import as_sentencepiece, as_tiktoken
from bloomery.tokenizer.sentencepiece_file import read_sentencepiece, write_sentencepiece
from bloomery.tokenizer.tokenizer import Tokenizer
from bloomery.tokenizer.train import TokenizerConfig, learn, write_tokenizer

ODD = ["  a  b\t\n\nc  ", "", "<|endoftext|> x", "<0x41> <unk>", " \u3000x\u00a0y\r\n", "a" * 300, "ΩΩ 7654"]


def of_kind(kind: str, texts: list[str], folder: Path, size: int = 1500) -> Tokenizer:
    folder.mkdir()
    write_tokenizer(learn(texts, TokenizerConfig(vocab_size=size, kind=kind)), folder)  # type: ignore[arg-type]
    return Tokenizer.load(folder)


def encoding(files: tuple[bytes, bytes]) -> tiktoken.Encoding:
    """As a user of tiktoken would make it of the two files."""
    said = json.loads(files[1])
    ranks = {base64.b64decode(line.split()[0]): int(line.split()[1]) for line in files[0].splitlines()}
    return tiktoken.Encoding(
        said["name"], pat_str=said["pat_str"], mergeable_ranks=ranks, special_tokens=said["special_tokens"]
    )


@pytest.mark.parametrize("kind", ["unigram", "character"])
def test_sentencepiece_gives_our_ids(kind: str, multilingual: list[str], tmp_path: Path):
    tokenizer = of_kind(kind, multilingual[::5], tmp_path / kind)
    data = as_sentencepiece(tokenizer)
    processor = sentencepiece.SentencePieceProcessor(model_proto=data)
    texts = [*multilingual[::3], *ODD]
    ids = tokenizer.encode_batch(texts)
    assert processor.encode(texts) == ids
    assert [processor.decode(one) for one in ids] == texts
    assert processor.vocab_size() == tokenizer.vocab_size
    assert (processor.bos_id(), processor.eos_id(), processor.unk_id()) == (0, 0, 3)
    assert processor.id_to_piece(1) == "<|im_start|>" and processor.is_control(1)
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "tokenizer.model").write_bytes(data)
    assert Tokenizer.load(tmp_path / "again").encode_batch(texts) == ids


def test_a_published_model_comes_out_as_it_went_in(
    published: Callable[[str], bytes], folder_of, multilingual: list[str]
):
    """A Unigram model with a character map, and Llama 2's kind of byte pairs."""
    data = published("spm_test_model.model")
    tokenizer = Tokenizer.load(folder_of(spiece__model=data))
    before, after = (
        sentencepiece.SentencePieceProcessor(model_proto=one) for one in (data, as_sentencepiece(tokenizer))
    )
    texts = [*multilingual[::5], *ODD]
    assert after.encode(texts) == before.encode(texts)
    assert (after.bos_id(), after.eos_id(), after.unk_id()) == (before.bos_id(), before.eos_id(), before.unk_id())
    file = read_sentencepiece(data, "x")
    assert read_sentencepiece(write_sentencepiece(file), "y") == file


def test_byte_pairs_of_characters(multilingual: list[str], folder_of):
    """Trained by SentencePiece itself, read, written and read by SentencePiece again."""
    import io

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(multilingual[::8]),
        model_writer=written,
        model_type="bpe",
        vocab_size=2500,
        byte_fallback=True,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        num_threads=1,
        minloglevel=2,
    )
    tokenizer = Tokenizer.load(folder_of(tokenizer__model=written.getvalue()))
    again = sentencepiece.SentencePieceProcessor(model_proto=as_sentencepiece(tokenizer))
    texts = [*multilingual[::5], *ODD]
    assert again.encode(texts) == tokenizer.encode_batch(texts)


def test_tiktoken_gives_our_ids(multilingual: list[str], tmp_path: Path):
    tokenizer = of_kind("bpe", multilingual[::5], tmp_path / "bpe", 3000)
    files = as_tiktoken(tokenizer)
    texts = [*multilingual[::3], *ODD]
    ids = tokenizer.encode_batch(texts)
    assert encoding(files).encode_ordinary_batch(texts) == ids
    assert encoding(files).encode("<|im_end|>", allowed_special="all") == [2]
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "own.tiktoken").write_bytes(files[0])
    (tmp_path / "again" / "own.tiktoken.json").write_bytes(files[1])
    again = Tokenizer.load(tmp_path / "again")
    assert again.encode_batch(texts) == ids and again.special_ids == tokenizer.special_ids
    assert (again.bos_id, again.end_id, again.vocab_size) == (0, 0, tokenizer.vocab_size)
    (tmp_path / "again" / "own.tiktoken.json").write_text('{"pat_str": "x"}')
    with pytest.raises(DataError, match=r"own\.tiktoken\.json is damaged"):
        Tokenizer.load(tmp_path / "again")


def test_published_ranks_and_extended_ones(published: Callable[[str], bytes], folder_of, multilingual: list[str]):
    folder = folder_of(vocab__json=published("gpt2_encoder.json.xz"), merges__txt=published("gpt2_vocab.bpe.xz"))
    tokenizer = Tokenizer.load(folder)
    # r50k_base is what tiktoken calls GPT-2's vocabulary: the very same ranks.
    assert sorted(as_tiktoken(tokenizer)[0].splitlines()) == sorted(published("r50k_base.tiktoken.xz").splitlines())
    longer = extend(tokenizer, multilingual[::5], ExtendConfig(tokens=50, min_frequency=5)).tokenizer
    assert encoding(as_tiktoken(longer)).encode_ordinary_batch(multilingual[::5]) == longer.encode_batch(
        multilingual[::5]
    )


@pytest.mark.parametrize(
    ("kind", "sentences", "ranks"),
    [
        ("bpe", "splits text by a pattern", ""),
        ("word", "splits text by a pattern", "whole words"),
        ("wordpiece", "no WordPiece", "WordPiece"),
        ("unigram", "", "Unigram"),
        ("character", "", "of characters"),
        ("kmer", "splits text by a pattern", "pattern of its own"),
    ],
)
def test_why_not(kind: str, sentences: str, ranks: str, tmp_path: Path):
    tokenizer = of_kind(kind, ["a b a b a b"] * 3, tmp_path / kind, 300)
    for write, why in ((as_sentencepiece, sentences), (as_tiktoken, ranks)):
        if why:
            with pytest.raises(DataError, match=why) as caught:
                write(tokenizer)
            assert "\n" not in caught.value.one_line() and caught.value.hint


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from(" \n▁<0x41>ab")), max_size=30))
def test_any_text_in_sentencepiece(text: str, pair: tuple[Tokenizer, sentencepiece.SentencePieceProcessor]):
    tokenizer, processor = pair
    if "\0" not in text:  # SentencePiece's Python binding takes text to its first NUL
        assert processor.encode(text) == tokenizer.encode(text)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, sentencepiece.SentencePieceProcessor]:
    tokenizer = of_kind("unigram", ["ab ba abba <0x41> baab\n"] * 20, tmp_path_factory.mktemp("pair") / "u", 300)
    return tokenizer, sentencepiece.SentencePieceProcessor(model_proto=as_sentencepiece(tokenizer))
