"""SentencePiece models: the ids of `sentencepiece` itself, for models that its own trainer made here."""

from __future__ import annotations

import io
import struct
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from transformers import T5Tokenizer, XLMRobertaTokenizer

from bloomery.core.errors import DataError
from bloomery.tokenizer.pieces import from_sentencepiece
from bloomery.tokenizer.sentencepiece_file import SentencePieceFile, read_sentencepiece
from bloomery.tokenizer.tokenizer import Tokenizer

ODD = [
    "  a  b\t\n\nc  ",
    "",
    " ",
    "</s> <s> <unk> <pad>",
    "▁a ▁▁b▁",
    "\u3000x\u00a0y",
    " x",
    "x ",
    "a" * 300,
    "ﬁ Ⅷ ①",
    "<0x41><0x0A> <0xzz>",
]
FORMS: dict[str, dict[str, Any]] = {
    "t5": {"character_coverage": 0.995, "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
    "xlm-roberta": {"character_coverage": 0.999},
    "llama": {
        "model_type": "bpe",
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "split_digits": True,
        "allow_whitespace_only_pieces": True,
    },
    "gemma": {
        "model_type": "bpe",
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "add_dummy_prefix": False,
        "user_defined_symbols": ["<mask>", "<start_of_turn>", "<end_of_turn>", "\n", "\n\n", "▁▁", "▁▁▁"],
    },
    "user": {"user_defined_symbols": ["<mask>", "[GAP]"], "model_type": "unigram", "normalization_rule_name": "nfkc"},
    "bytes": {"model_type": "unigram", "byte_fallback": True, "character_coverage": 0.99},
    "bpe": {"model_type": "bpe", "character_coverage": 0.99},
}


@pytest.fixture(scope="session")
def trained(multilingual: list[str]) -> dict[str, bytes]:
    """A model file of each form, as `sentencepiece` trains it."""
    models: dict[str, bytes] = {}
    for name, options in FORMS.items():
        out = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(multilingual), model_writer=out, vocab_size=4000, minloglevel=2, **options
        )
        models[name] = out.getvalue()
    return models


def loaded(data: bytes, folder_of: Callable[..., Path], **config: Any) -> Tokenizer:
    return Tokenizer.load(folder_of(tokenizer__model=data, config__json=config))


@pytest.mark.parametrize("name", [*FORMS, "published"])
def test_ids_are_those_of_sentencepiece(
    name: str, trained: dict[str, bytes], published: Callable[[str], bytes], folder_of, multilingual: list[str]
):
    data = published("spm_test_model.model") if name == "published" else trained[name]
    reference = sentencepiece.SentencePieceProcessor(model_proto=data)
    tokenizer = loaded(data, folder_of)
    texts = [*multilingual, *ODD, *(f"so  {text}<mask>is [GAP] it" for text in multilingual[::20])]
    if name != "gemma":  # whose folder says that <start_of_turn> is special
        texts.append("a <start_of_turn> b")
    ids = tokenizer.encode_batch(texts)
    assert ids == reference.encode(texts)
    assert not {tokenizer.bos_id, *tokenizer.eos_ids, tokenizer.pad_id} & {index for one in ids for index in one}
    assert tokenizer.vocab_size == reference.get_piece_size()
    for text, one in zip(texts, ids, strict=True):
        if reference.unk_id() not in one and not text.startswith("▁"):
            assert tokenizer.decode(one) == reference.decode(one)


def test_llama_round_trips(trained: dict[str, bytes], folder_of, multilingual: list[str]):
    tokenizer = loaded(trained["llama"], folder_of, model_type="llama")
    texts = [text for text in [*multilingual[::5], *ODD] if "▁" not in text]
    assert [tokenizer.decode(ids) for ids in tokenizer.encode_batch(texts)] == texts
    assert tokenizer.adds_bos and (tokenizer.bos_id, tokenizer.eos_ids) == (1, (2,)) and tokenizer.strips_leading_space


@pytest.mark.parametrize("name", ["t5", "bytes", "user", "xlm-roberta"])
def test_decomposed_text(name: str, trained: dict[str, bytes], folder_of, multilingual: list[str]):
    """Letters and marks apart, as some systems write them. Korean is the known exception."""
    reference = sentencepiece.SentencePieceProcessor(model_proto=trained[name])
    texts = [unicodedata.normalize("NFD", text) for text in multilingual[::3]]
    texts = [text for text in texts if not any("\u1100" <= letter <= "\u11ff" for letter in text)]
    ids = loaded(trained[name], folder_of).encode_batch(texts)
    assert ids == reference.encode(texts)


def test_t5(trained: dict[str, bytes], folder_of: Callable[..., Path], multilingual: list[str]):
    folder = folder_of(spiece__model=trained["t5"], config__json={"model_type": "t5"})
    tokenizer = Tokenizer.load(folder)
    reference = sentencepiece.SentencePieceProcessor(model_proto=trained["t5"])
    tokenizer.save(folder / "saved")
    peer = T5Tokenizer.from_pretrained(folder / "saved")
    # transformers' class splits at any white space, which is what this model's own rules come to.
    assert [ids[:-1] for ids in peer(multilingual)["input_ids"]] == reference.encode(multilingual)
    assert (tokenizer.vocab_size, tokenizer.pad_id, tokenizer.eos_ids, tokenizer.bos_id) == (4100, 0, (1,), None)
    sentinels = tokenizer.encode("<extra_id_0><extra_id_99>", allow_special=True)
    assert [one for one in sentinels if one >= 4000] == [4099, 4000]
    assert tokenizer.encode_with_special("one two")[0] == [*reference.encode("one two"), 1]
    plain = tokenizer.encode("<extra_id_0> </s> <pad>")
    assert plain == reference.encode("<extra_id_0> </s> <pad>")


def test_xlm_roberta(trained: dict[str, bytes], folder_of: Callable[..., Path], multilingual: list[str]):
    """Its ids are the file's, moved by one, with four tokens of its own in front and one at the end."""
    data = trained["xlm-roberta"]
    reference = sentencepiece.SentencePieceProcessor(model_proto=data)
    folder = folder_of(sentencepiece__bpe__model=data, config__json={"model_type": "xlm-roberta"})
    tokenizer = Tokenizer.load(folder)
    moved = [[3 if index == 0 else index + 1 for index in ids] for ids in reference.encode(multilingual)]
    assert tokenizer.encode_batch(multilingual) == moved
    assert (tokenizer.cls_id, tokenizer.pad_id, tokenizer.sep_id, tokenizer.mask_id) == (0, 1, 2, 4001)
    tokenizer.save(folder / "saved")
    peer = XLMRobertaTokenizer.from_pretrained(folder / "saved")
    for pair in (("Hello",), ("Hello", "two parts")):
        assert tokenizer.encode_with_special(*pair)[0] == peer(*pair)["input_ids"]


def test_gemma(trained: dict[str, bytes], folder_of: Callable[..., Path]):
    tokenizer = loaded(trained["gemma"], folder_of, model_type="gemma2")
    turn = tokenizer.encode("<start_of_turn>", allow_special=True)
    assert len(turn) == 1 and turn[0] in tokenizer.special_ids and not tokenizer.strips_leading_space
    assert turn[0] not in tokenizer.encode("<start_of_turn>") and tokenizer.adds_bos


def changed(file: SentencePieceFile, **changes: Any) -> SentencePieceFile:
    from dataclasses import replace

    return replace(file, **changes)


def test_what_is_not_supported_is_named(published: Callable[[str], bytes]):
    from bloomery.tokenizer.sentencepiece_file import ModelType, Piece, PieceType

    file = read_sentencepiece(published("spm_test_model.model"), "x")
    unused = Piece(text="never", score=0.0, type=PieceType.UNUSED)
    for change, message in (
        ({"model_type": ModelType.WORD}, "of whole words"),
        ({"treat_whitespace_as_suffix": True}, "ends of pieces"),
        ({"pieces": (*file.pieces, unused)}, "unused"),
        ({"precompiled_charsmap": b"\xff\xff\xff\xff12"}, "character map is damaged"),
        ({"precompiled_charsmap": b"\1"}, "character map is damaged"),
    ):
        with pytest.raises(DataError, match=message):
            from_sentencepiece(changed(file, **change), "sentencepiece", {}, "x")
    with pytest.raises(DataError, match="extra_ids"):
        from_sentencepiece(file, "t5", {"extra_ids": "many"}, "x")
    with pytest.raises(DataError, match="does not begin with"):
        from_sentencepiece(changed(file, pieces=file.pieces[1:]), "xlm-roberta", {}, "x")


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_character_map_is_no_crash(published: Callable[[str], bytes], folder_of):
    data = published("spm_test_model.model")
    file = read_sentencepiece(data, "x")
    start = data.index(file.precompiled_charsmap)
    size = struct.unpack_from("<I", file.precompiled_charsmap)[0]
    noise = bytes((7 * i) % 251 for i in range(size))
    broken = data[: start + 4] + noise + data[start + 4 + size :]
    try:
        loaded(broken, folder_of).encode_batch(["Hello wörld", "ﬁ"])
    except DataError as error:
        assert "damaged" in error.message and "\n" not in error.one_line()
