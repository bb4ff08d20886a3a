"""DomainConfig: what is out of range is said by its name, what is at the edge is taken, and what nobody says."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bloomery.adapt.domain import DomainConfig
from bloomery.adapt.domain.config import DomainFitConfig
from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("replay", (1.0, -0.1, math.nan)),
        ("report_documents", (1, 0, -3)),
        ("resamples", (99, 0)),
        ("context_length", (-1, 7)),
    ],
)
def test_out_of_range_is_said_by_name(name: str, values: tuple[Any, ...]):
    for value in values:
        with pytest.raises(ConfigError, match=f'"{name}" should be') as caught:
            DomainConfig(**{name: value})
        assert "\n" not in caught.value.one_line()


@pytest.mark.parametrize(
    "edge", [{"replay": 0.0}, {"replay": 0.999}, {"report_documents": 2}, {"resamples": 100}, {"context_length": 8}]
)
def test_edges_are_taken_and_come_back(edge: dict[str, Any]):
    config = DomainConfig(**edge)
    assert from_dict(DomainConfig, to_dict(config)) == config and DomainConfig() != config


def test_what_nobody_says():
    """All weights, one pass, the last weights and not the best: what a domain is read for is not its validation."""
    config = DomainConfig()
    assert (config.weights, config.replay, config.context_length) == ("full", 0.2, 0)
    assert isinstance(config.fit, DomainFitConfig)
    assert (config.fit.epochs, config.fit.keep_best, config.fit.weight_decay) == (1.0, False, 0.05)


def test_keys_and_words_that_there_are_not():
    with pytest.raises(ConfigError, match="unknown key"):
        from_dict(DomainConfig, {"reply": 0.1})
    with pytest.raises(ConfigError, match="cannot be"):
        from_dict(DomainConfig, {"weights": "half"})
    with pytest.raises(ConfigError, match="epochs"):
        from_dict(DomainConfig, {"fit": {"epochs": -1.0}})
