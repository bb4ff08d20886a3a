"""Scripts: in which writing a text is, by the names that Unicode gives its letters.

Python's Unicode database has no Script property (UAX 24), but a letter's name begins with its script's. Hiragana,
Katakana and Han together are "Japanese", as in ISO 15924 (Jpan). This module does not know languages.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

UNKNOWN = "unknown"
UNSPACED = frozenset({"Han", "Japanese", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan", "Javanese"})
"""Scripts that put no space between words: what stands between spaces is a phrase."""
_KANA_SHARE = 0.05
_LONG_NAMES = {
    "CJK": "Han",
    "KANGXI": "Han",
    "IDEOGRAPHIC": "Han",
    "HENTAIGANA": "Hiragana",
    "NEW": "New Tai Lue",
    "TAI": "Tai",
    "OL": "Ol Chiki",
    "MEETEI": "Meetei Mayek",
    "SYLOTI": "Syloti Nagri",
    "CANADIAN": "Canadian Aboriginal",
    "OLD": "Old",
}
_FORMS = re.compile(
    r"(?:KATAKANA-HIRAGANA|FULLWIDTH|HALFWIDTH|MATHEMATICAL|MODIFIER LETTER|SUPERSCRIPT|SUBSCRIPT|COMBINING|BOLD"
    r"|SMALL CAPITAL|DOUBLE-STRUCK|BLACK-LETTER|SCRIPT|SANS-SERIF|TURNED|FEMININE|MASCULINE|MICRO|OHM|KELVIN|ANGSTROM) "
)


@lru_cache(maxsize=1 << 16)
def script_of_letter(character: str) -> str:
    """The script of a letter, as Unicode names it ("Latin", "Devanagari"); "" for what belongs to none: digits, marks
    of punctuation, signs, and letters that many scripts share."""
    if not (character.isalpha() or unicodedata.category(character) in ("Mn", "Mc")):
        return ""
    name = unicodedata.name(character, "")
    if not name or _FORMS.match(name):
        return ""
    first = re.split(r"[ -]", name, maxsplit=1)[0]
    return _LONG_NAMES.get(first, first.title())


def script_of(texts: Iterable[str]) -> str:
    """The script of most letters of the texts; UNKNOWN if they hold none."""
    characters = Counter[str]()
    for text in texts:
        characters.update(text)
    scripts = Counter[str]()
    for character, count in characters.items():
        if script := script_of_letter(character):
            scripts[script] += count
    if not scripts:
        return UNKNOWN
    kana = scripts["Hiragana"] + scripts["Katakana"]
    if kana > _KANA_SHARE * scripts.total() and kana + scripts["Han"] > scripts.total() / 2:
        return "Japanese"
    return max(scripts, key=lambda script: (scripts[script], script))
