"""Scripts: against the Script property of the `regex` library, on every letter of 51 languages and beyond."""

from __future__ import annotations

import unicodedata

import pytest
import regex

from bloomery.tokenizer.scripts import UNKNOWN, script_of, script_of_letter


def test_letters_have_unicodes_script(multilingual: list[str]):
    letters = {c for text in multilingual for c in text if unicodedata.category(c)[0] == "L"}
    assert len(letters) > 1500
    for letter in letters:
        if script := script_of_letter(letter):
            assert regex.fullmatch(rf"\p{{Script={script}}}", letter), (letter, script, unicodedata.name(letter))
    unsaid = {c for c in letters if not script_of_letter(c)}
    assert len(unsaid) < 10, unsaid


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("wake me up at 9", "Latin"),
        ("сколько времени", "Cyrillic"),
        ("東京の天気を教えて", "Japanese"),
        ("カタカナ", "Japanese"),
        ("今天天气怎么样", "Han"),
        ("오늘 날씨", "Hangul"),
        ("नमस्ते dunia", "Devanagari"),
        ("12 + 3 = 😀", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_a_text_is_in_the_script_of_most_of_its_letters(text: str, script: str):
    assert script_of([text]) == script
