"""tiktoken's engine gives the ids of the library, on every language and any text; what it cannot do is refused."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import RequestError
from bloomery.tokenizer.fast import FastEncoder, batch_encoder, default_threads, grouped
from bloomery.tokenizer.merge_order import Refusal
from bloomery.tokenizer.tiktoken_file import known_patterns
from bloomery.tokenizer.tokenizer import Tokenizer
from bloomery.tokenizer.train import TokenizerConfig, learn, write_tokenizer

ODD = [
    "",
    " ",
    "  a  b\t\n\nc  \n  ",
    "'ſ 'S\u2028x I'LL",
    "<|endoftext|> <|im_start|>",
    " \u3000x\u00a0y\r\n\r\n",
    "a" * 300,
]


@pytest.fixture(scope="module")
def trained(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Trained on English and Japanese."""
    folder = tmp_path_factory.mktemp("trained")
    texts = []
    for name in ("botchan_en.txt.xz", "wagahaiwa_ja.txt.xz"):
        with lzma.open(shared_data / "text" / name, "rt", encoding="utf-8") as stream:
            texts.append(stream.read(60_000))
    write_tokenizer(learn(texts, TokenizerConfig(vocab_size=2000, digits=1)), folder)
    return Tokenizer.load(folder)


def test_ids_on_every_language(trained: Tokenizer, multilingual: list[str]):
    texts = [*multilingual[::4], *ODD]
    expected = trained.encode_batch(texts)
    for threads in (1, 3):
        assert FastEncoder(trained, threads=threads).encode_batch(texts) == expected
    assert max(max(ids, default=0) for ids in expected) > 1500


@pytest.mark.parametrize("name", ["cl100k_base.tiktoken.xz", "o200k_base.tiktoken.gz", "r50k_base.tiktoken.xz"])
def test_ids_of_published_ones(name: str, published: Callable, folder_of: Callable, multilingual: list[str]):
    tokenizer = Tokenizer.load(folder_of(ranks__tiktoken=published(name)))
    texts = [*multilingual[::9], *ODD]
    assert FastEncoder(tokenizer, threads=2).encode_batch(texts) == tokenizer.encode_batch(texts)


ANY = st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from(" \n\t\r'sdAé0129.!�猫")), max_size=40)


@settings(max_examples=80, deadline=None)
@given(texts=st.lists(ANY, max_size=6))
def test_any_text(trained: Tokenizer, texts: list[str]):
    assert fast_encoder_of(trained).encode_batch(texts) == trained.encode_batch(texts)


SPACED = st.text(alphabet=st.sampled_from(" \n\r\t\u00a0\u3000\x1c'sſLla9٣.!/<é猫กั"), max_size=30)


@settings(max_examples=300, deadline=None)
@given(text=SPACED, pattern=st.sampled_from(sorted(known_patterns())))
def test_a_grouped_pattern_splits_as_the_plain_one(text: str, pattern: str):
    assert grouped(pattern) != pattern
    assert regex.findall(grouped(pattern), text) == regex.findall(pattern, text)


def test_a_pattern_without_those_spaces_stays():
    for pattern in (r"\s+|\S+", r"\S+|\s+(?!\S)|\s+|x"):
        assert grouped(pattern) == pattern


_MADE: dict[int, FastEncoder] = {}


def fast_encoder_of(tokenizer: Tokenizer) -> FastEncoder:  # hypothesis would make one for each example
    return _MADE.setdefault(id(tokenizer), FastEncoder(tokenizer, threads=1))


def test_long_texts_are_cut_where_nothing_joins(trained: Tokenizer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bloomery.tokenizer.tokenizer._PIECE_CHARACTERS", 50)
    text = "It was a furnace.\nAnyone could build one:\n\n  and own it.\n猫である。\n" * 40
    assert FastEncoder(trained, threads=3).encode_batch([text, "x", text]) == [
        trained.encode(text),
        trained.encode("x"),
        trained.encode(text),
    ]


def test_what_is_no_text_is_an_error(trained: Tokenizer):
    for bad in ("a\ud800", b"a", 5):
        with pytest.raises(RequestError):
            FastEncoder(trained, threads=1).encode_batch(["ok", bad])  # type: ignore[list-item]


def test_text_that_its_engine_cannot_split_goes_to_the_library(trained: Tokenizer):
    class Panics:
        def encode_ordinary(self, text: str) -> list[int]:
            raise type("PanicException", (BaseException,), {})("stack overflow")

    encoder = FastEncoder(trained, threads=1)
    encoder._encoding = Panics()  # type: ignore[assignment]
    assert encoder.encode_batch(["  a text  "]) == trained.encode_batch(["  a text  "])
    assert encoder.left_to_library == ["PanicException: stack overflow"]


def _changed(tokenizer: Tokenizer, change: Callable[[dict], None]) -> Tokenizer:
    described = json.loads(json.dumps(tokenizer.description))
    change(described)
    return tokenizer.described_as(described)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda d: d.update(normalizer={"type": "NFC"}), "changes text"),
        (lambda d: d["added_tokens"][1].update(special=False), "plain text"),
        (lambda d: d["pre_tokenizer"]["pretokenizers"][0]["pattern"].update(Regex=r"\s+|\S+"), "pattern of its own"),
        (lambda d: d["pre_tokenizer"]["pretokenizers"].pop(0), "one pattern|own"),
        (lambda d: d["model"]["merges"].reverse(), "order"),
        (lambda d: d["model"].update(ignore_merges=True, merges=d["model"]["merges"][:5]), "whole words"),
    ],
)
def test_refused_with_the_reason(trained: Tokenizer, change: Callable[[dict], None], why: str):
    changed = _changed(trained, change)
    with pytest.raises(Refusal, match=why):
        FastEncoder(changed)
    encoder, said = batch_encoder(changed)
    assert said and encoder.encode_batch(["a b"]) == changed.encode_batch(["a b"])


def test_threads(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAYON_NUM_THREADS", raising=False)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    assert default_threads() == 1
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    assert default_threads() >= 1
    monkeypatch.setenv("RAYON_NUM_THREADS", "3")
    assert default_threads() == 3
