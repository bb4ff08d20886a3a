"""DistilConfig: what is out of range is said by its name, what is at the edge is taken."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bloomery.adapt.distillation import DistilConfig
from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("validation_fraction", (1.0, -0.1, math.nan)),
        ("beta", (1.5, -0.1, math.nan)),
        ("label_weight", (-0.1, 1.01)),
        ("temperature", (0.0, -1.0, math.nan, math.inf)),
        ("writing_temperature", (-0.1, math.nan, math.inf)),
        ("candidates", (1, -2)),
        ("samples", (0,)),
        ("max_new_tokens", (0,)),
        ("max_tokens", (7, -1)),
    ],
)
def test_out_of_range_is_said_by_name(name: str, values: tuple[Any, ...]):
    for value in values:
        with pytest.raises(ConfigError, match=f'"{name}"') as caught:
            DistilConfig(**{name: value})
        assert "\n" not in caught.value.one_line()


@pytest.mark.parametrize(
    "edge",
    [
        *({"beta": 1.0}, {"label_weight": 1.0}, {"writing_temperature": 0.0}, {"candidates": 2}, {"max_tokens": 8}),
        *({"validation_fraction": 0.0}, {"way": "texts", "samples": 4}),
    ],
)
def test_edges_are_taken_and_come_back(edge: dict[str, Any]):
    config = DistilConfig(**edge)
    assert from_dict(DistilConfig, to_dict(config)) == config and DistilConfig() != config


def test_words_that_there_are_not():
    with pytest.raises(ConfigError, match="cannot be"):
        from_dict(DistilConfig, {"way": "speech"})
    with pytest.raises(ConfigError, match="unknown key"):
        from_dict(DistilConfig, {"teacher": "x"})
