"""Samples whose choices and targets cannot both be meant are refused."""

from __future__ import annotations

import pytest

from bloomery.core.errors import DataError
from bloomery.evaluate.sample import Sample


def test_the_gold_choice_is_the_first_targets_place() -> None:
    assert Sample(id="1", input="2 + 2?", targets=("4",), choices=("3", "4")).gold == 1
    assert Sample(id="1", input="2 + 2?", targets=("4",)).gold is None
    assert Sample(id="1", input="2 + 2?", choices=("3", "4")).gold is None


@pytest.mark.parametrize(
    ("targets", "choices"),
    [(("5",), ("3", "4")), (("4",), ("4", "4")), (("4",), ("4",))],
    ids=["other", "twice", "one"],
)
def test_choices_that_cannot_be_meant_are_refused(targets: tuple[str, ...], choices: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="sample '7'"):
        Sample(id="7", input="2 + 2?", targets=targets, choices=choices)
