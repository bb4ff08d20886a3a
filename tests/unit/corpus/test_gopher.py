"""Gopher: scores of texts small enough to count by hand."""

from __future__ import annotations

import pytest

from bloomery.corpus.gopher import QUALITY, REPETITION
from bloomery.corpus.judge import Judge

JUDGE = Judge([*REPETITION, *QUALITY])


def test_counted_by_hand():
    text = "• the cat\n- and # dog...\nbe…\nbe…"
    scores = JUDGE.judge(text).scores
    # • the cat - and # dog ... be … be …
    assert scores["gopher_min_words"] == 7  # a bullet is no punctuation to datatrove
    assert scores["gopher_hashes"] == 1 / 12
    assert scores["gopher_ellipses"] == 3 / 12
    assert scores["gopher_bullet_lines"] == 2 / 4
    assert scores["gopher_ellipsis_lines"] == 3 / 4
    assert scores["gopher_words_with_letters"] == 6 / 12
    assert scores["gopher_common_words"] == 3
    assert scores["gopher_repeated_lines"] == 1 / 4
    assert scores["gopher_repeated_line_characters"] == 3 / len(text)
    assert scores["gopher_top_2_words"] == 2 * len("be …") / len(text)


def test_words_without_any_word_have_no_mean():
    assert JUDGE.judge("... !!!").scores["gopher_min_word_characters"] is None


@pytest.mark.parametrize("size", range(5, 11))
def test_a_text_said_twice_repeats_half_of_its_words(size: int):
    text = " ".join(f"word{n}" for n in range(40))
    score = JUDGE.judge(f"{text} {text}").scores[f"gopher_repeated_{size}_words"]
    characters = sum(len(f"word{n}") for n in range(40 // size * size))
    assert score == pytest.approx(characters / (2 * len(text) + 1), abs=1e-9)
