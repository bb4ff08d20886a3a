"""Configs to and from plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.config import check_choices, digest, from_dict, parse_scalar, to_dict
from bloomery.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Config:
    steps: int
    name: str = "x"
    mode: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = ()
    limit: float | None = None
    inner: Inner = field(default_factory=Inner)


finite = st.floats(allow_nan=False, allow_infinity=False)
configs = st.builds(
    Config,
    steps=st.integers(),
    name=st.text(),
    mode=st.sampled_from(["a", "b"]),
    sizes=st.lists(st.integers()).map(tuple),
    limit=st.none() | finite,
    inner=st.builds(Inner, rate=finite),
)


@given(configs)
def test_round_trip(config: Config) -> None:
    again = from_dict(Config, to_dict(config))
    assert again == config and digest(to_dict(again)) == digest(to_dict(config))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"stepz": 1}, "steps"),
        ({}, "missing key"),
        ({"steps": True}, "should be int"),
        ({"steps": "1"}, "should be int"),
        ({"steps": 1, "mode": "c"}, "mode"),
        ({"steps": 1, "sizes": [1, "2"]}, r"t.sizes\[1\]"),
        ({"steps": 1, "inner": {"rat": 1}}, "t.inner.rat"),
        ({"steps": 1, "limit": "much"}, "t.limit"),
    ],
)
def test_mistakes_name_the_key(values: dict[str, object], text: str) -> None:
    import re

    with pytest.raises(ConfigError) as caught:
        from_dict(Config, values, where="t")
    assert re.search(text, caught.value.one_line())


def test_scalars() -> None:
    assert [parse_scalar(t) for t in ("1", "2.5", "true", '"q"', "[1]", "word")] == [1, 2.5, True, "q", [1], "word"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400])
def test_numbers_that_json_cannot_hold_are_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="rate"):
        from_dict(Inner, {"rate": value})


def test_a_scalar_nested_beyond_reason_is_text() -> None:
    assert parse_scalar("[" * 5000) == "[" * 5000


def test_a_name_that_is_not_utf8_has_a_digest_of_its_own() -> None:
    names = ["caf\udce9", "caf\\udce9", "caf\udcea"]
    assert len({digest({"sources": [name]}) for name in names}) == 3


def test_a_wrong_kind_says_how_it_is_written():
    @dataclass(frozen=True, kw_only=True)
    class Named:
        names: tuple[str, ...] = ()
        field: str = ""

    for values, hint in (({"names": 'a"b'}, '["a\\"b"]'), ({"field": 1}, 'with quotes: "1"')):
        with pytest.raises(ConfigError, match="should be") as caught:
            from_dict(Named, values)
        assert caught.value.hint == hint


@pytest.mark.parametrize("rate", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_named(rate: float) -> None:
    """A recipe cannot say it, but Python can."""
    with pytest.raises(ConfigError, match=r'"inner\.rate" should be a finite number'):
        to_dict(Config(steps=1, sizes=(2,), inner=Inner(rate=rate)))


def test_a_choice_made_in_python_is_looked_at() -> None:
    check_choices(Config(steps=1, mode="b"))
    with pytest.raises(ConfigError, match=r'"stage\.mode" cannot be') as caught:
        check_choices(Config(steps=1, mode="bb"), where="stage")  # type: ignore[arg-type]
    assert 'did you mean "b"?' in caught.value.hint or "known: a, b" in caught.value.hint
