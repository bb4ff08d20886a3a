"""BERT's vocab.txt: the ids of `transformers`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, BertTokenizer

from bloomery.core.errors import DataError
from bloomery.tokenizer.tokenizer import Tokenizer
from bloomery.tokenizer.wordpiece import from_wordpiece

VOCAB = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\niron\n##s\n"


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"do_lower_case": False},
        {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False},
        {"strip_accents": False},
    ],
)
def test_ids_are_those_of_transformers(
    config: dict[str, Any], published: Callable[[str], bytes], folder_of: Callable[..., Path], multilingual: list[str]
):
    vocab = published("bert-base-uncased_vocab.txt")
    folder = folder_of(vocab__txt=vocab, tokenizer_config__json={"tokenizer_class": "BertTokenizer", **config})
    tokenizer, reference = Tokenizer.load(folder), BertTokenizer.from_pretrained(folder)
    assert tokenizer.encode_batch(multilingual) == reference(multilingual, add_special_tokens=False)["input_ids"]
    assert (tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id, tokenizer.pad_id) == (101, 102, 103, 0)
    assert tokenizer.vocab_size == len(reference) == 30_522
    ids = tokenizer.encode("The small furnace smelts iron.")
    assert tokenizer.decode(ids) == reference.decode(ids, skip_special_tokens=True)


def test_what_is_saved_is_read_by_transformers(published: Callable[[str], bytes], folder_of, tmp_path: Path):
    folder = folder_of(vocab__txt=published("bert-base-uncased_vocab.txt"))
    tokenizer, reference = Tokenizer.load(folder), BertTokenizer.from_pretrained(folder)
    tokenizer.save(tmp_path / "saved")
    saved, again = AutoTokenizer.from_pretrained(tmp_path / "saved"), Tokenizer.load(tmp_path / "saved")
    for pair in (("Hello wörld",), ("Hello", "two parts")):
        assert saved(*pair)["input_ids"] == reference(*pair)["input_ids"] == again.encode_with_special(*pair)[0]
    assert saved.mask_token_id == reference.mask_token_id == again.mask_id == 103


def test_a_vocabulary_of_another_kind_is_named():
    with pytest.raises(DataError, match=r"does not hold the unk_token '\[UNK\]'"):
        from_wordpiece(b"a\nb\n", {}, "vocab.txt")
    with pytest.raises(DataError, match="0 tokens"):
        from_wordpiece(b"", {}, "vocab.txt")
    with pytest.raises(DataError, match="UTF-8"):
        from_wordpiece(b"\xff", {}, "vocab.txt")
    with pytest.raises(DataError, match="never_split"):
        from_wordpiece(VOCAB, {"never_split": ["x"]}, "vocab.txt")


def test_own_names_of_special_tokens():
    described, config = from_wordpiece(VOCAB.replace(b"[MASK]", b"<gap>"), {"mask_token": "<gap>"}, "vocab.txt")
    assert config["mask_token"] == "<gap>" and described["added_tokens"][-1]["content"] == "<gap>"
