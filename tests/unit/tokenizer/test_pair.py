"""TokenizerPair: one tokenizer for both, or two in one folder."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.tokenizer import Tokenizer, TokenizerConfig, TokenizerPair
from bloomery.tokenizer.train import learn, write_tokenizer


def _tokenizer(folder, texts, size):
    folder.mkdir()
    write_tokenizer(learn(texts * 5, TokenizerConfig(vocab_size=size)), folder)
    return Tokenizer.load(folder)


def test_there_and_back(tmp_path):
    source = _tokenizer(tmp_path / "s", ["the small house"], 270)
    target = _tokenizer(tmp_path / "t", ["das kleine Haus"], 265)
    TokenizerPair(source, source).save(tmp_path / "one")
    one = TokenizerPair.load(tmp_path / "one")
    assert one.shared and not (tmp_path / "one" / "target").exists()
    TokenizerPair(source, target).save(tmp_path / "two")
    two = TokenizerPair.load(tmp_path / "two")
    assert not two.shared and (two.source.vocab_size, two.target.vocab_size) == (270, 265)
    assert two.target.encode("das Haus") == target.encode("das Haus") != two.source.encode("das Haus")
    (tmp_path / "two" / "target" / "tokenizer.json").unlink()
    with pytest.raises(DataError):
        TokenizerPair.load(tmp_path / "two")


def test_a_tokenizer_of_nothing():
    with pytest.raises(ConfigError, match="nothing to learn"):
        TokenizerConfig(texts=False)
