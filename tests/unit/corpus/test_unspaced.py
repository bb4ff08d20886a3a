"""unspaced: the scripts are those of Unicode's line breaking, and words are cut by them."""

from __future__ import annotations

import unicodedata

import regex

from bloomery.corpus.minhash import words_of
from bloomery.corpus.unspaced import UNSPACED_CHARACTER


def test_scripts_without_spaces_are_those_that_unicode_breaks_without_them():
    """Letters of the line-break classes SA (a dictionary says where), ID and CJ (anywhere), as the library `regex` has
    them; not Korean, nor the wide forms of Latin, which have spaces. Tibetan and Javanese have classes of their own."""
    broken = regex.compile(r"[\p{lb=SA}\p{lb=ID}\p{lb=CJ}]")
    spaced = regex.compile(r"[\p{Script=Hangul}\p{Script=Latin}]")
    marks = "\u3006\u3031\u3032\u3033\u3034"  # that stand for letters, between letters
    letters = [c for c in map(chr, range(0x110000)) if unicodedata.category(c)[0] in "LM" and c not in marks]
    wanted = [c for c in letters if broken.match(c) and not spaced.match(c)]
    assert len(wanted) > 90_000
    assert [c for c in wanted if words_of(c * 2) != [c, c]] == []
    assert all(map(UNSPACED_CHARACTER.match, wanted))
    for text in ("བོད་སྐད", "ꦧꦱꦗꦮ", "ﾊﾝｶｸ"):
        assert words_of(text) == list(text)
    for text in ("한국어", "ελληνικά", "Ｗｉｄｅ".casefold(), "አማርኛ"):
        assert words_of(text) == [text]
