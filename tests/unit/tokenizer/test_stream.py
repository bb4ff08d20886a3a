"""Stream decoding: whole characters only, and in all the same text as `decode`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.tokenizer.stream import StreamDecoder
from bloomery.tokenizer.tokenizer import Tokenizer


def streamed(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    decoder = StreamDecoder(tokenizer)
    return [*(decoder.push(index) for index in ids), decoder.finish()]


@pytest.mark.parametrize("form", ["ours", "llama2"])
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_ids_give_the_text_of_decode(request: pytest.FixtureRequest, form: str, data: st.DataObject):
    tokenizer = Tokenizer.load(request.getfixturevalue(form))
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=40))
    assert "".join(streamed(tokenizer, ids)) == tokenizer.decode(ids)


@settings(max_examples=100, deadline=None)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), max_size=40))
def test_valid_text_never_shows_a_replacement_character(tokenizer: Tokenizer, text: str):
    pieces = streamed(tokenizer, tokenizer.encode(text))
    assert "\ufffd" not in "".join(pieces) and "".join(pieces) == text


def test_a_character_over_several_tokens_comes_whole(tokenizer: Tokenizer):
    ids = tokenizer.encode("🜀")  # not in the training text: one token a byte
    assert len(ids) > 1
    assert streamed(tokenizer, ids) == [""] * (len(ids) - 1) + ["🜀", ""]


def test_an_unfinished_character_is_replaced_at_the_end(tokenizer: Tokenizer):
    ids = tokenizer.encode("a🜀")[:-1]
    assert streamed(tokenizer, ids)[-1] == "\ufffd"


def test_special_tokens_are_silent(tokenizer: Tokenizer):
    assert streamed(tokenizer, [0, *tokenizer.encode("a"), 2]) == ["", "a", "", ""]


def test_the_space_of_a_continuation_is_kept(llama2: Path):
    tokenizer = Tokenizer.load(llama2)
    ids = tokenizer.encode("furnace")
    assert "".join(streamed(tokenizer, ids)) == "furnace"
    decoder = StreamDecoder(tokenizer, continues=True)
    assert "".join(decoder.push(index) for index in ids) == " furnace"
