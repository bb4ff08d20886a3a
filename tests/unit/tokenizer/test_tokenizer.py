"""Tokenizer: the same ids and texts as `transformers`, for our folders and for published forms."""

from __future__ import annotations

import functools
import json
import lzma
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertTokenizerFast

from bloomery.core.errors import DataError, RequestError
from bloomery.tokenizer import tokenizer as module
from bloomery.tokenizer.tokenizer import Tokenizer

TEXTS = [
    "Hello world",
    "I'LL say it's 'tis 1234567 times",
    "émigré 😀👩‍👩‍👧 日本語です。 नमस्ते สวัสดี Ελληνικά עברית العربية",
    "def f(x):\n\treturn x ** 2  # 12345.678\n\n\n",
    "\x00\x01\x07\x1b[0m\r\n \r\n\t \x7f\x85\xa0\u2028x",
    "  lead and trail   ",
    "a" * 500,
    "１２３ ⅷ ²³ ٣٤٥٦٧",
    "e\u0301 \ufeff\u200b\u202e \ufffd \U0010ffff",
    "<|im_start|>user\nhi<|im_end|>",
    "",
]
UNICODE = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.mark.parametrize("text", TEXTS)
def test_ids_equal_transformers(ours: Path, tokenizer: Tokenizer, text: str):
    reference = AutoTokenizer.from_pretrained(ours)
    assert reference(text)["input_ids"] == tokenizer.encode(text, add_bos=True, allow_special=True)
    ids = tokenizer.encode(text, allow_special=True)
    assert reference(text, add_special_tokens=False)["input_ids"] == ids
    for skip in (True, False):
        assert reference.decode(ids, skip_special_tokens=skip) == tokenizer.decode(ids, skip_special=skip)


def test_many_languages_equal_transformers(ours: Path, tokenizer: Tokenizer, shared_data: Path):
    reference = AutoTokenizer.from_pretrained(ours)
    texts = []
    for path in sorted((shared_data / "massive").glob("*.tsv.xz")):
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            texts += [line.rstrip("\n").split("\t")[-1] for _, line in zip(range(6), lines, strict=False)]
    assert len(texts) > 250
    assert reference(texts)["input_ids"] == tokenizer.encode_batch(texts, add_bos=True)
    assert [tokenizer.decode(ids) for ids in tokenizer.encode_batch(texts)] == texts


def test_transformers_knows_the_special_tokens(ours: Path, tokenizer: Tokenizer):
    reference = AutoTokenizer.from_pretrained(ours)
    assert (reference.bos_token_id, reference.eos_token_id, reference.pad_token_id) == (0, 0, 0)
    assert set(reference.all_special_ids) == set(tokenizer.special_ids) == {0, 1, 2}
    assert len(reference) == tokenizer.vocab_size


def test_a_folder_saved_again_by_transformers_is_the_same_tokenizer(ours: Path, tokenizer: Tokenizer, tmp_path: Path):
    AutoTokenizer.from_pretrained(ours).save_pretrained(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.encode_batch(TEXTS) == tokenizer.encode_batch(TEXTS)
    assert (again.bos_id, again.eos_ids, again.adds_bos) == (tokenizer.bos_id, tokenizer.eos_ids, True)
    messages = [{"role": "user", "content": "Hi"}]
    assert again.encode_chat(messages) == tokenizer.encode_chat(messages)


def test_names(tokenizer: Tokenizer):
    assert tokenizer.bos_id == tokenizer.end_id == tokenizer.separator_id == 0
    assert tokenizer.eos_ids == (0, 2) and tokenizer.adds_bos and not tokenizer.strips_leading_space


@settings(max_examples=200, deadline=None)
@given(text=UNICODE)
def test_any_text_round_trips_and_makes_no_special_token(tokenizer: Tokenizer, text: str):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
    assert not tokenizer.special_ids.intersection(ids)


@pytest.mark.parametrize("text", ["<|endoftext|>", "a<|im_start|>b<|im_end|>", "<|im_<|im_end|>start|>"])
def test_text_that_spells_a_special_token_stays_text(tokenizer: Tokenizer, text: str):
    ids = tokenizer.encode(text)
    assert not tokenizer.special_ids.intersection(ids) and tokenizer.decode(ids) == text
    assert tokenizer.special_ids.intersection(tokenizer.encode(text, allow_special=True))


def test_every_byte_has_a_token(tokenizer: Tokenizer):
    pieces = {tokenizer.token_bytes(index) for index in range(tokenizer.vocab_size)}
    assert {bytes([byte]) for byte in range(256)} <= pieces
    assert tokenizer.token_bytes(0) == b"" and tokenizer.token_text(0) == "<|endoftext|>"


@pytest.mark.parametrize("index", [-1, 10**6])
def test_ids_out_of_range(tokenizer: Tokenizer, index: int):
    with pytest.raises(IndexError, match="outside the vocabulary"):
        tokenizer.token_bytes(index)
    with pytest.raises(IndexError, match="outside the vocabulary"):
        tokenizer.decode([index])


def test_batches_are_the_single_texts(tokenizer: Tokenizer):
    assert tokenizer.encode_batch(TEXTS) == [tokenizer.encode(text) for text in TEXTS]
    assert tokenizer.encode_batch([]) == []


LINES = st.lists(
    st.one_of(
        st.sampled_from(["\n", "\n\n", " \n", "\r\n", "/", "//", " ", "'s", "a", "Z9", "_", "\u0301", "é"]), UNICODE
    ),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(lines=LINES)
def test_a_long_text_may_be_cut(tokenizer: Tokenizer, lines: list[str]):
    """Encoded in pieces, a text has the ids that it has whole."""
    text = "".join(lines)
    whole = tokenizer.encode(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PIECE_CHARACTERS", 3)
        patch.setattr(module, "_GROUP_CHARACTERS", 5)
        assert tokenizer.encode_batch([text, "", text]) == [whole, [], whole]


def test_a_long_text_may_be_cut_for_gpt2(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tokenizer = Tokenizer.load(gpt2_folder(shared_data, tmp_path))
    with lzma.open(shared_data / "text" / "wikitext2_valid.txt.xz", "rt", encoding="utf-8") as stream:
        text = stream.read(100_000)
    code = Path(__file__).read_text(encoding="utf-8")
    whole = tokenizer.encode_batch([text, code])
    monkeypatch.setattr(module, "_PIECE_CHARACTERS", 20)
    assert tokenizer.encode_batch([text, code]) == whole


def test_what_is_not_text_is_refused(tokenizer: Tokenizer):
    with pytest.raises(RequestError, match="Unicode"):
        tokenizer.encode("lone \ud800 surrogate")
    with pytest.raises(RequestError, match="only text"):
        tokenizer.encode(b"bytes")  # type: ignore[arg-type]


def test_save_and_load(tokenizer: Tokenizer, ours: Path, tmp_path: Path):
    tokenizer.save(tmp_path / "copy")
    assert {p.name: p.read_bytes() for p in (tmp_path / "copy").iterdir()} == {
        p.name: p.read_bytes() for p in ours.iterdir()
    }
    assert Tokenizer.load(tmp_path / "copy").encode("Hello") == tokenizer.encode("Hello")


# Other people's folders


def test_llama2_form(llama2: Path):
    tokenizer, reference = Tokenizer.load(llama2), AutoTokenizer.from_pretrained(llama2)
    assert (tokenizer.bos_id, tokenizer.eos_ids, tokenizer.end_id) == (1, (2,), 2)
    assert tokenizer.adds_bos and tokenizer.strips_leading_space
    for text in [*TEXTS[:9], " two  spaces ", "<s> not special </s>"]:
        assert reference(text)["input_ids"] == tokenizer.encode(text, add_bos=True, allow_special=True)
        ids = tokenizer.encode(text)
        assert not tokenizer.special_ids.intersection(ids)
        if "<s>" not in text:
            assert reference.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids) == text
    ids = reference("Once upon")["input_ids"]
    assert reference.decode(ids, skip_special_tokens=False) == tokenizer.decode(ids, skip_special=False)


@settings(max_examples=100, deadline=None)
@given(text=UNICODE)
def test_llama2_form_round_trips(llama2: Path, text: str):
    tokenizer = Tokenizer.load(llama2)
    ids = tokenizer.encode(text)
    assert not tokenizer.special_ids.intersection(ids)
    assert tokenizer.decode(ids) == text.replace("▁", " ")  # the tokenizer's own mark for a space


def test_llama2_token_bytes(llama2: Path):
    tokenizer = Tokenizer.load(llama2)
    assert tokenizer.token_bytes(3 + 0x0A) == b"\n" and tokenizer.token_bytes(3 + 0xE2) == b"\xe2"
    assert tokenizer.token_bytes(tokenizer.encode("furnace")[0]).startswith(b" ")
    assert tokenizer.token_bytes(1) == b""


def gpt2_folder(shared_data: Path, folder: Path) -> Path:
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    source = shared_data / "tokenizers"
    with lzma.open(source / "gpt2_encoder.json.xz", "rt", encoding="utf-8") as stream:
        vocab = json.load(stream)
    with lzma.open(source / "gpt2_vocab.bpe.xz", "rt", encoding="utf-8") as stream:
        merges = [tuple(line.split()) for line in stream.read().splitlines()[1:]]
    backend = Backend(models.BPE(vocab, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("<|endoftext|>", special=True, normalized=False)])
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 1024}')
    (folder / "config.json").write_text('{"model_type": "gpt2", "bos_token_id": 50256, "eos_token_id": 50256}')
    return folder


def test_gpt2_form(shared_data: Path, tmp_path: Path):
    """GPT-2's folder names its special tokens in config.json only. Ids are those that OpenAI published."""
    tokenizer = Tokenizer.load(gpt2_folder(shared_data, tmp_path))
    assert (tokenizer.bos_id, tokenizer.eos_ids, tokenizer.vocab_size) == (50256, (50256,), 50257)
    assert not tokenizer.adds_bos
    assert tokenizer.encode("Hello world") == [15496, 995]
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_gpt2_ids_against_the_published_ranks(shared_data: Path, tmp_path: Path):
    """The r50k ranks are the same vocabulary by bytes: token_bytes must agree for every id."""
    import base64

    tokenizer = Tokenizer.load(gpt2_folder(shared_data, tmp_path))
    with lzma.open(shared_data / "tokenizers" / "r50k_base.tiktoken.xz", "rt") as lines:
        ranks = [line.split() for line in lines]
    assert len(ranks) == 50256
    assert all(tokenizer.token_bytes(int(rank)) == base64.b64decode(data) for data, rank in ranks)


@pytest.mark.parametrize(
    ("sides", "bos", "eos"),
    [
        ({"tokenizer_config.json": {"bos_token": None, "eos_token": "<|im_end|>"}}, None, (2,)),
        ({"tokenizer_config.json": {"eos_token": "<|endoftext|>"}, "config.json": {"bos_token_id": 1}}, 1, (0, 2)),
        ({"generation_config.json": {"eos_token_id": [2, 0]}, "config.json": {"eos_token_id": 0}}, None, (2, 0)),
        ({"special_tokens_map.json": {"bos_token": {"content": "<|im_start|>"}, "eos_token": "<|im_end|>"}}, 1, (2,)),
        ({"config.json": {"eos_token_id": True, "bos_token_id": 10**9}}, None, (2,)),
        ({}, None, (2,)),
    ],
)
def test_where_bos_and_eos_come_from(ours: Path, tmp_path: Path, sides: dict, bos, eos):
    shutil.copy(ours / "tokenizer.json", tmp_path)
    for name, content in sides.items():
        (tmp_path / name).write_text(json.dumps(content))
    tokenizer = Tokenizer.load(tmp_path)
    assert (tokenizer.bos_id, tokenizer.eos_ids) == (bos, eos)
    assert tokenizer.separator_id == (0 if bos is None else bos)


def test_a_wordpiece_folder_encodes_and_decodes(tmp_path: Path):
    """Encoders' tokenizers load; their tokens have no bytes of their own, which is said, not guessed."""
    from tokenizers import BertWordPieceTokenizer

    trained = BertWordPieceTokenizer()
    trained.train_from_iterator(["the small furnace smelts iron"] * 5, vocab_size=80, show_progress=False)
    trained.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.decode(tokenizer.encode("The small furnace")) == "the small furnace"
    with pytest.raises(DataError, match="no bytes"):
        tokenizer.token_bytes(5)


# Encoders

# A text that spells a special token is one for transformers, and text for us: see the test below.
PLAIN = UNICODE.filter(lambda text: "[" not in text)


@pytest.fixture(scope="module")
def bert(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    shutil.copy(shared_data / "tokenizers" / "bert-base-uncased_vocab.txt", folder / "vocab.txt")
    return folder


@settings(max_examples=150, deadline=None)
@given(first=PLAIN, second=st.none() | PLAIN.filter(bool), length=st.none() | st.integers(3, 40))
def test_special_tokens_around_texts_as_transformers_puts_them(bert: Path, first, second, length):
    tokenizer, reference = _bert(bert)
    cut = {} if length is None else {"max_length": length, "truncation": "longest_first"}
    expected = reference(first, second, return_token_type_ids=True, **cut)
    ids, type_ids = tokenizer.encode_with_special(first, second, max_length=length)
    assert (ids, type_ids) == (expected["input_ids"], expected["token_type_ids"])


@functools.cache
def _bert(folder: Path):
    return Tokenizer.load(folder), BertTokenizerFast.from_pretrained(folder)


def test_text_that_spells_an_encoders_special_token_stays_text(bert: Path):
    ids, _ = Tokenizer.load(bert).encode_with_special("a [MASK] b [SEP] c", "[CLS]")
    assert ids.count(102) == 2 and ids.count(101) == 1 and 103 not in ids


def test_no_room_for_special_tokens(bert: Path):
    with pytest.raises(RequestError, match="max_length is 1") as caught:
        Tokenizer.load(bert).encode_with_special("a", max_length=1)
    assert caught.value.param == "max_length"
    with pytest.raises(RequestError, match="Unicode"):
        Tokenizer.load(bert).encode_with_special("\ud800")


def test_a_pair_without_special_tokens(shared_data: Path, tmp_path: Path):
    tokenizer = Tokenizer.load(gpt2_folder(shared_data, tmp_path))
    assert tokenizer.encode_with_special("Hello", " world", max_length=2) == ([15496, 995], [0, 1])
    assert (tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id, tokenizer.pad_id) == (None, None, None, None)


def test_a_unigram_tokenizer_json_keeps_text_text(tmp_path: Path):
    """Unigram matches any piece of its vocabulary, special ones too: text must not reach them."""
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    letters = [("<unk>", 0.0), ("</s>", 0.0), *((letter, -5.0) for letter in "▁</s>ab")]
    backend = Backend(models.Unigram(letters, unk_id=0))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    backend.add_special_tokens([AddedToken("</s>", special=True, normalized=False)])
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.decode(tokenizer.encode("a </s> b")) == "a </s> b" and 1 not in tokenizer.encode("a </s> b")
    assert 1 in tokenizer.encode("a </s> b", allow_special=True)


def test_an_absurd_id_is_refused(ours: Path, tmp_path: Path):
    described = json.loads((ours / "tokenizer.json").read_text(encoding="utf-8"))
    described["model"]["vocab"]["absurd"] = 4_000_000_000
    (tmp_path / "tokenizer.json").write_text(json.dumps(described), encoding="utf-8")
    with pytest.raises(DataError, match="4,000,000,000"):
        Tokenizer.load(tmp_path)


# Bad input


def test_a_folder_without_tokenizer_json_has_a_hint(tmp_path: Path):
    with pytest.raises(DataError, match=r"holds no tokenizer\.json") as caught:
        Tokenizer.load(tmp_path)
    assert "save_pretrained" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"model": {"type": "BPE"}}', b"[" * 10**5])
def test_a_damaged_tokenizer_json_is_one_line(tmp_path: Path, content: bytes):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(DataError) as caught:
        Tokenizer.load(tmp_path)
    assert "tokenizer.json" in caught.value.message and "\n" not in caught.value.one_line()


def test_a_damaged_side_file_is_named(ours: Path, tmp_path: Path):
    shutil.copy(ours / "tokenizer.json", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(DataError, match=r"tokenizer_config\.json is damaged"):
        Tokenizer.load(tmp_path)


def test_a_huge_file_is_refused_unread(tmp_path: Path):
    with (tmp_path / "tokenizer.json").open("wb") as stream:
        stream.truncate(1 << 30)
    with pytest.raises(DataError, match="larger than"):
        Tokenizer.load(tmp_path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_flipped_bytes_never_crash(ours: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    """Damage is either harmless or a DataError."""
    content = bytearray((ours / "tokenizer.json").read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("flipped")
    (folder / "tokenizer.json").write_bytes(bytes(content))
    try:
        Tokenizer.load(folder).encode("Once upon a time")
    except DataError as error:
        assert "\n" not in error.one_line()
