"""SamplingParams: every number out of range is a RequestError that names the field."""

from __future__ import annotations

import math

import pytest

from bloomery.core.errors import RequestError
from bloomery.engine.params import MAX_STOP_STRINGS, SamplingParams

WRONG = [
    ("max_new_tokens", -1),
    ("max_new_tokens", 10**30),
    ("max_new_tokens", 3.0),
    ("max_new_tokens", True),
    ("max_new_tokens", None),
    ("temperature", -0.1),
    ("temperature", math.nan),
    ("temperature", math.inf),
    ("temperature", "1"),
    ("temperature", 10**400),
    ("top_k", -1),
    ("top_k", 1.5),
    ("top_p", 1.1),
    ("top_p", math.nan),
    ("min_p", -1e-9),
    ("min_p", 2),
    ("seed", 2**64),
    ("seed", -(2**63) - 1),
    ("seed", "0"),
    ("stop", ("",)),
    ("stop", (3,)),
    ("stop", 3),
    ("stop", ("x" * 10_000,)),
    ("stop", tuple("abcdefghijklmnopqrstuvwxyz")),
    ("logprobs", 21),
    ("logprobs", -1),
    ("prompt_logprobs", 1.0),
    ("ignore_eos", 1),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=[f"{n}={str(v)[:12]}" for n, v in WRONG])
def test_wrong_values_name_the_field(name, value):
    with pytest.raises(RequestError) as caught:
        SamplingParams(**{name: value})
    assert caught.value.param == name
    assert len(caught.value.one_line()) < 200


def test_limits_themselves_are_accepted():
    SamplingParams(max_new_tokens=0, temperature=0, top_k=0, top_p=0, min_p=0, seed=-(2**63))
    SamplingParams(temperature=100, top_p=1, min_p=1, seed=2**64 - 1, logprobs=20, stop=("x",) * MAX_STOP_STRINGS)


def test_stop_is_always_a_tuple():
    assert SamplingParams(stop="end").stop == ("end",)  # type: ignore[arg-type]
    assert SamplingParams(stop=["a", "b"]).stop == ("a", "b")  # type: ignore[arg-type]
    assert SamplingParams(stop=None).stop == ()  # type: ignore[arg-type]
