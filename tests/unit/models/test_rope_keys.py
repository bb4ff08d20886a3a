"""Rotary settings that say one thing twice are read; those that contradict each other are errors."""

from __future__ import annotations

from typing import Any

import pytest

from bloomery.core.errors import ConfigError
from bloomery.models.rope_keys import by_layer_type, read_rope, rotary_share

LINEAR = {"rope_type": "linear", "factor": 2.0}


def test_both_forms_say_the_same():
    expected = {"rope_theta": 5e5, "rope_scaling": LINEAR}
    assert read_rope({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}, 1e4) == expected
    assert read_rope({"rope_parameters": {**LINEAR, "rope_theta": 5e5}}, 1e4) == expected
    assert read_rope({}, 1e4) == {"rope_theta": 1e4, "rope_scaling": None}


def test_a_table_for_each_kind_of_layer():
    tables = {"full_attention": {**LINEAR, "rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}
    result = by_layer_type({"rope_parameters": tables})
    assert result == {"rope_parameters": {**LINEAR, "rope_theta": 1e6}, "rope_local_base_freq": 1e4}
    plain = {"rope_parameters": {"rope_theta": 1e4}, "hidden_size": 3}
    assert by_layer_type(plain) == plain


@pytest.mark.parametrize(
    "tables",
    [
        {"full_attention": {"rope_theta": 1e6}},
        {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}, "other": {}},
        {"full_attention": {"rope_theta": 1e6}, "sliding_attention": LINEAR},
    ],
)
def test_tables_that_would_lose_something(tables: dict[str, Any]):
    with pytest.raises(ConfigError):
        by_layer_type({"rope_parameters": tables})


def test_contradictions():
    tables = {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}
    with pytest.raises(ConfigError, match="rope_local_base_freq"):
        by_layer_type({"rope_parameters": tables, "rope_local_base_freq": 2e4})
    with pytest.raises(ConfigError, match="partial_rotary_factor"):
        rotary_share({"partial_rotary_factor": 0.5, "rope_parameters": {"partial_rotary_factor": 0.25}})


def test_rotary_share():
    assert rotary_share({}) is None
    assert rotary_share({"partial_rotary_factor": 0.5}) == 0.5
    assert rotary_share({"rope_parameters": {"partial_rotary_factor": 0.25, "rope_theta": 1e4}}) == 0.25
