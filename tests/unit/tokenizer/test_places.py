"""Where tokens begin: one place for each token, and the words' own beginnings among them."""

from __future__ import annotations

import pytest

from bloomery.core.errors import RequestError
from bloomery.tokenizer import Tokenizer
from bloomery.tokenizer.places import token_starts
from bloomery.tokenizer.train import TokenizerConfig, learn, write_tokenizer

TEXT = "Once upon a time a furnace smelted iron. Über Nacht. 火炉"


def test_places(tmp_path):
    write_tokenizer(learn([TEXT] * 4, TokenizerConfig(vocab_size=300)), tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    starts = token_starts(tokenizer, TEXT)
    assert len(starts) == len(tokenizer.encode(TEXT)) and starts == sorted(starts)
    assert starts[0] == 0 and all(0 <= start < len(TEXT) for start in starts)
    with pytest.raises(RequestError):
        token_starts(tokenizer, "\ud800")
