"""Number: what a text announces or ends with; targets of GSM8K as they are."""

from __future__ import annotations

import json
import lzma
import os
import re
from decimal import Decimal
from pathlib import Path

import pytest

from bloomery.core.number import as_digits, find_number, last_number

DATA = Path(os.environ.get("BLOOMERY_DATA") or Path(__file__).parents[4] / "shared" / "data") / "eval"


@pytest.mark.parametrize(
    "text, number",
    [
        ("#### 72", "72"),
        ("So 48 + 24 = 72", "72"),
        ("#### 1,234,567.50", "1234567.50"),
        ("It costs $1,000.", "1000"),
        ("−5", "-5"),
        ("-$5", "-5"),
        ("The answer is 12. Then 99 others came.", "12"),
        ("\\boxed{3\\,000}", "3000"),
        ("\\boxed{\\frac{1}{4}}", ".25"),
        ("3/4", ".75"),
        ("12%", "12"),
        ("1.5e3", "1500"),
        (".5", "0.5"),
        ("H2O", None),
        ("none", None),
        ("1/0 or 7", "7"),
        ("On 3.14.", "3.14"),
        ("between 3, 4 and 5", "5"),
        ("１２", "12"),
    ],
)
def test_the_number(text: str, number: str | None):
    found = find_number(text)
    assert found == (None if number is None else Decimal(number))


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("3 apples and 4 pears make 7.", "7"),
        ("$1,234.50", "1234.5"),
        ("007.0", "7"),
        ("-12", "-12"),
        ("-0.0", "0"),
        ("in 1999, .5", "0.5"),
        ("1,2,3", "3"),
        ("#### 5 apples, not 6", "6"),
        ("1.5e3 m", "1500"),
        ("on 2024-05-01", "1"),
        ("none", None),
        (".", None),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_the_last_number_and_its_digits(text: str, wanted: str | None):
    found = last_number(text)
    assert (None if found is None else as_digits(found)) == wanted


@pytest.mark.skipif(not DATA.is_dir() and not os.environ.get("CI"), reason="BLOOMERY_DATA is not there")
def test_gsm8ks_solutions_are_right():
    """What the data set's authors take: the number after ####, without commas."""
    with lzma.open(DATA / "gsm8k_train.jsonl.xz", "rt") as file:
        rows = [json.loads(line) for _, line in zip(range(2000), file, strict=False)]
    for row in rows:
        wanted = re.search(r"#### (-?[0-9.,]+)", row["answer"])
        assert wanted and find_number(row["answer"]) == Decimal(wanted[1].replace(",", ""))
    # without the mark the last number of the reasoning is the answer nearly always
    last = [find_number(row["answer"].split("####")[0]) == find_number(row["answer"]) for row in rows]
    assert sum(last) / len(last) > 0.95
