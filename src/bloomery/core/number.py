"""Number: the one reader of numbers in what models and people write: exact, thousands by comma, fractions computed.

    find_number("48 + 24 = 72. The answer is $1,200.50 a year.")    # Decimal("1200.50")

Cobbe and others, arXiv 2110.14168: the answer of GSM8K is what stands after "####". That, a "\\boxed{}", or a sentence
that announces the answer counts before the last number. This module does not know units or currencies: it passes over
them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from decimal import Decimal, DecimalException

_NUMBER = re.compile(
    r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?(?:\s?/\s?\d+(?:\.\d+)?)?|"
    r"(?<![\w.])[-+]?\.\d+"
)
_MARKS = (re.compile(r"####"), re.compile(r"\\boxed\{"), re.compile(r"\banswer\b(?:\s+is)?|\bAntwort\b", re.IGNORECASE))
_BETWEEN = 120
"""Characters between a mark and the number that it announces."""
_MOST_CHARACTERS = 1 << 18
"""The end of a text that is read."""


def find_number(text: str) -> Decimal | None:
    """The number that a text announces, or ends with. None where there is none."""
    text = _plainly(text)
    for mark in _MARKS:
        for found in reversed(list(mark.finditer(text))):
            line = text[found.end() : found.end() + _BETWEEN].split("\n\n")[0]
            if (number := _NUMBER.search(line)) and (value := _value(number[0])) is not None:
                return value
    return next(_from_the_end(text), None)


def last_number(text: str) -> Decimal | None:
    """The last one, whatever is announced before it. None where there is none."""
    return next(_from_the_end(_plainly(text)), None)


def as_digits(number: Decimal) -> str:
    """Without thousands, exponents and zeros that say nothing: 1,234.50 is "1234.5", 7.0 is "7", -0 is "0"."""
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if not text.strip("-0") else text


def _plainly(text: str) -> str:
    text = unicodedata.normalize("NFKC", text[-_MOST_CHARACTERS:])
    text = text.replace("−", "-").replace("\\,", "").replace("{,}", ",")
    text = re.sub(r"\\d?frac\{(-?\d+)\}\{(\d+)\}", r"\1/\2", text)
    return re.sub(r"(?<=[-+])\s*[$€£]\s*(?=\d)", "", text)


def _from_the_end(text: str) -> Iterator[Decimal]:
    for number in reversed(list(_NUMBER.finditer(text))):
        if (value := _value(number[0])) is not None:
            yield value


def _value(text: str) -> Decimal | None:
    over, _, under = text.replace(",", "").replace(" ", "").partition("/")
    try:
        value = Decimal(over) / Decimal(under) if under else Decimal(over)
    except DecimalException:
        return None
    return value if value.is_finite() else None
