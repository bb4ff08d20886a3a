"""Words with their tokens: the same ids as the whole text, frame included."""

from __future__ import annotations

import pytest

from bloomery.tokenizer import Tokenizer, TokenizerConfig
from bloomery.tokenizer.train import learn, write_tokenizer
from bloomery.tokenizer.words import special_frame, word_pieces

TEXT = "Iron ore, 1200 degrees; Schlacke fließt ab."


@pytest.mark.parametrize("encloses", [False, True])
def test_the_ids_of_words_are_those_of_their_text(tmp_path, encloses):
    write_tokenizer(learn([TEXT] * 5, TokenizerConfig(vocab_size=300, encloses=encloses)), tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    before, after = special_frame(tokenizer)
    pieces = word_pieces(tokenizer, TEXT.split())
    assert len(pieces) == 7 and all(pieces)
    assert [*before, *(i for piece in pieces for i in piece), *after] == tokenizer.encode_with_special(TEXT)[0]
