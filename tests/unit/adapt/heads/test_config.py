"""HeadsConfig: what is none is refused in a line."""

from __future__ import annotations

import pytest

from bloomery.adapt.heads.config import HeadsConfig
from bloomery.core.errors import ConfigError


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"heads": 0}, '"heads" should be from 1 to 8, not 0'),
        ({"heads": 9}, '"heads" should be from 1 to 8, not 9'),
        ({"context_length": 8}, '"context_length" should be 0, or 16 and more, not 8'),
        ({"context_length": -1}, '"context_length" should be 0, or 16 and more, not -1'),
    ],
)
def test_what_is_none_is_refused(wrong: dict[str, int], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        HeadsConfig(**wrong)


def test_ends_of_the_range() -> None:
    assert [HeadsConfig(heads=heads).heads for heads in (1, 8)] == [1, 8]
    assert HeadsConfig(context_length=16).context_length == 16
