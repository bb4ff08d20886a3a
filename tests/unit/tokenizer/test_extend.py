"""More tokens for a tokenizer: old ids stay, text is cut as before and merged further, transformers agrees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from bloomery.core.errors import ConfigError, DataError
from bloomery.tokenizer.extend import ExtendConfig, extend
from bloomery.tokenizer.fast import FastEncoder
from bloomery.tokenizer.tokenizer import Tokenizer

DOMAIN = ["The spectrophotometer measured deoxyribonucleotides. Ösophagoskopie!\n" * 40]


def test_text_is_cut_as_before_and_merged_further(tokenizer: Tokenizer, tmp_path: Path):
    made = extend(tokenizer, DOMAIN, ExtendConfig(tokens=60, max_token_bytes=20))
    new = made.tokenizer
    assert 0 < len(made.pieces) <= 60 and min(made.pieces) == tokenizer.vocab_size
    assert sorted(made.pieces) == list(range(tokenizer.vocab_size, new.vocab_size))
    texts = [*DOMAIN, "Once upon a time the spectrophotometer 😀", "deoxyribonucleotides", ""]
    for text in texts:
        ids = new.encode(text)
        assert [old for index in ids for old in made.pieces.get(index, (index,))] == tokenizer.encode(text)
        assert new.decode(ids) == text
    assert len(new.encode(DOMAIN[0])) < 0.7 * len(tokenizer.encode(DOMAIN[0]))
    for index, parts in made.pieces.items():
        assert new.token_bytes(index) == b"".join(tokenizer.token_bytes(part) for part in parts)
        assert len(parts) > 1 and len(new.token_bytes(index)) <= 20
    for name in ("bos_id", "eos_ids", "pad_id", "special_ids"):
        assert getattr(new, name) == getattr(tokenizer, name)
    messages = [{"role": "user", "content": "The spectrophotometer"}]
    assert new.encode_chat(messages)[:2] == tokenizer.encode_chat(messages)[:2]
    new.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert [theirs(text, add_special_tokens=False).input_ids for text in texts] == new.encode_batch(texts)
    assert len(theirs) == new.vocab_size
    assert FastEncoder(new).encode_batch(texts) == new.encode_batch(texts)


def test_words_may_be_counted_on_disk(tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bloomery.tokenizer.counts._CHUNK_CHARACTERS", 100)
    texts = [f"word{n % 40}x other{n % 7}\n" for n in range(4000)]
    config = ExtendConfig(tokens=30, max_words=1000)
    expected = extend(tokenizer, texts, config)
    object.__setattr__(config, "max_words", 20)
    made = extend(tokenizer, texts, config, folder=tmp_path)
    assert list(tmp_path.iterdir()) and len(expected.pieces) == 30
    # The most frequent words alone are learnt from.
    assert made.pieces.keys() <= expected.pieces.keys()


def test_refused(tokenizer: Tokenizer, llama2: Path):
    with pytest.raises(DataError, match="BPE of characters") as caught:
        extend(Tokenizer.load(llama2), DOMAIN, ExtendConfig())
    assert "\n" not in caught.value.one_line()
    with pytest.raises(DataError, match="frequent enough"):
        extend(tokenizer, ["qq"], ExtendConfig())
    with pytest.raises(ConfigError, match="tokens"):
        ExtendConfig(tokens=0)


def test_gpt2(published: Callable[[str], bytes], folder_of: Callable[..., Path]):
    """A published vocabulary whose special token is in the vocabulary."""
    folder = folder_of(vocab__json=published("gpt2_encoder.json.xz"), merges__txt=published("gpt2_vocab.bpe.xz"))
    old = Tokenizer.load(folder)
    made = extend(old, DOMAIN, ExtendConfig(tokens=20))
    assert min(made.pieces) == 50257 and made.tokenizer.encode("<|endoftext|>", allow_special=True) == [50256]
    text = "Ösophagoskopie deoxyribonucleotides"
    ids = made.tokenizer.encode(text)
    assert [one for index in ids for one in made.pieces.get(index, (index,))] == old.encode(text) and max(ids) > 50256
