"""Patterns of others: as `re` matches, and over in time whatever they are."""

from __future__ import annotations

import re
import time

import pytest

from bloomery.core.errors import DataError
from bloomery.models import pattern_trial
from bloomery.models.pattern_trial import matches

NAMES = ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj", "lm_head", "a" * 40]


@pytest.mark.parametrize("pattern", ["lm_head", "model.layers.0.self_attn.q_proj", r".*\.(q|up)_proj", "", r"[^.]*"])
def test_matches_as_re_does(pattern: str):
    assert matches(pattern, NAMES) == [re.fullmatch(pattern, name) is not None for name in NAMES]


def test_one_that_never_ends(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pattern_trial, "SECONDS", 1)
    began = time.perf_counter()
    with pytest.raises(DataError, match="takes more than 1 s"):
        matches("(a|a)*b", NAMES)
    assert time.perf_counter() - began < 30


@pytest.mark.parametrize("pattern", ["(", "a{99999999999999999999}", "x" * 5000, "(" * 3000])
def test_no_pattern(pattern: str):
    with pytest.raises(DataError):
        matches(pattern, NAMES)
