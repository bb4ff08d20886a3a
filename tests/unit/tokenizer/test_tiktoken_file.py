"""tiktoken rank files: the ids of tiktoken itself, on every language and every character."""

from __future__ import annotations

import base64
import lzma
import statistics
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken_ext import openai_public

from bloomery.core.errors import DataError
from bloomery.tokenizer.tiktoken_file import ENCODINGS, from_tiktoken, looks_like_tiktoken, read_ranks
from bloomery.tokenizer.tokenizer import Tokenizer

FILES = {"r50k_base": ".tiktoken.xz", "cl100k_base": ".tiktoken.xz", "o200k_base": ".tiktoken.gz"}
ODD = ["  a  b\t\n\nc  ", "'ſ 'S\u2028x I'LL", "", "<|endoftext|> <|fim_prefix|>", " \u3000x\u00a0y\r\n\r\n", "a" * 300]


def ranks_of(data: bytes) -> dict[bytes, int]:
    return {base64.b64decode(line.split()[0]): int(line.split()[1]) for line in data.splitlines()}


@pytest.mark.parametrize("name", FILES)
def test_ids_are_tiktokens(
    name: str,
    published: Callable[[str], bytes],
    folder_of: Callable[..., Path],
    multilingual: list[str],
    monkeypatch: pytest.MonkeyPatch,
):
    data = published(name + FILES[name])
    tokenizer = Tokenizer.load(folder_of(**{f"{name}__tiktoken": data}))
    # tiktoken's own description of the encoding, its download replaced by the file.
    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", lambda *_, **__: ranks_of(data))
    reference = tiktoken.Encoding(**getattr(openai_public, name)())
    texts = [*multilingual, *ODD, *(unicodedata.normalize("NFD", text) for text in multilingual[::9])]
    ids = tokenizer.encode_batch(texts)
    assert ids == reference.encode_ordinary_batch(texts)
    assert [tokenizer.decode(one) for one in ids] == texts
    letters = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cs", "Cn", "Co")]
    letters = letters[:30_000] + letters[30_000::23]
    texts = [f"a{letter}b 1{letter}" for letter in letters]
    assert tokenizer.encode_batch(texts) == reference.encode_ordinary_batch(texts)
    assert tokenizer.vocab_size == reference.n_vocab
    for text in reference.special_tokens_set:
        assert tokenizer.encode(text, allow_special=True) == [reference.encode_single_token(text)]


def test_published_medians(published: Callable[[str], bytes], folder_of: Callable[..., Path], shared_data: Path):
    """Tokens a sentence of MASSIVE's dev split: what is published for cl100k."""
    tokenizer = Tokenizer.load(folder_of(cl100k_base__tiktoken=published("cl100k_base.tiktoken.xz")))
    for language, median in (("en", 7), ("hi", 32), ("my", 72)):
        with lzma.open(shared_data / "massive" / f"{language}.tsv.xz", "rt", encoding="utf-8") as lines:
            rows = [line.rstrip("\n").split("\t") for line in lines]
        texts = [row[3] for row in rows if row[1] == "dev"]
        assert statistics.median(len(ids) for ids in tokenizer.encode_batch(texts)) == median


@pytest.mark.parametrize(("count", "name"), [(128_000, "tokenizer__model"), (151_643, "qwen__tiktoken")])
def test_llama3_and_qwen(count: int, name: str, published: Callable[[str], bytes], folder_of, multilingual: list[str]):
    """Their files are not at hand: the same number of o200k's first ranks stands for them, tiktoken reads them too."""
    data = b"".join(published("o200k_base.tiktoken.gz").splitlines(keepends=True)[:count])
    encoding = ENCODINGS[count]
    tokenizer = Tokenizer.load(folder_of(**{name: data}))
    reference = tiktoken.Encoding(
        encoding.name, pat_str=encoding.pattern, mergeable_ranks=ranks_of(data), special_tokens=dict(encoding.special)
    )
    texts = [*multilingual[::7], *ODD]
    normal = [unicodedata.normalize("NFC", text) if encoding.nfc else text for text in texts]
    assert tokenizer.encode_batch(texts) == reference.encode_ordinary_batch(normal)
    assert tokenizer.vocab_size == reference.n_vocab == {128_000: 128_256, 151_643: 151_851}[count]
    assert tokenizer.adds_bos is (count == 128_000) and tokenizer.end_id == encoding.special[encoding.eos]
    if count == 128_000:
        ids = [tokenizer.encode(text, allow_special=True) for text in ("<|start_header_id|>", "<|eot_id|>")]
        assert ids == [[128_006], [128_009]] and tokenizer.bos_id == 128_000


BYTES = b"".join(b"%s %d\n" % (base64.b64encode(bytes([byte])), byte) for byte in range(256))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        BYTES[: len(BYTES) // 2],
        BYTES + b"YWI=\n",
        BYTES + b"YWI= -1\n",
        BYTES + b"YWI 256\n",
        BYTES + b"YWI= 255\n",
        BYTES + b"YQ== 256\n",
        BYTES + b"YWI= 9999999\n",
        BYTES + base64.b64encode(b"a" * 257) + b" 256\n",
    ],
)
def test_damaged_files_are_one_line(data: bytes):
    with pytest.raises(DataError, match=r"x\.tiktoken is damaged") as caught:
        read_ranks(data, "x.tiktoken")
    assert "\n" not in caught.value.one_line()


def test_an_unknown_encoding_lists_the_known_ones():
    with pytest.raises(DataError, match="256 ranks") as caught:
        from_tiktoken(BYTES, "x.tiktoken")
    assert "cl100k_base (100,256)" in caught.value.hint


def test_a_huge_file_is_refused():
    with pytest.raises(DataError, match="larger than"):
        read_ranks(b"x" * (16 * 1024 * 1024 + 1), "x.tiktoken")


def test_which_files_are_rank_files():
    assert looks_like_tiktoken(BYTES)
    assert not looks_like_tiktoken(b"\n\x0e\n\x05<unk>") and not looks_like_tiktoken(b"")


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_bytes_are_ranks_or_one_line(data: st.DataObject):
    content = bytearray(data.draw(st.one_of(st.just(BYTES), st.binary(max_size=200))))
    for _ in range(data.draw(st.integers(0, 3)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert len(read_ranks(bytes(content), "x")) == 256
    except DataError as error:
        assert "\n" not in error.one_line()
