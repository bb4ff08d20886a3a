"""DistilConfig: what is out of range is said."""

from __future__ import annotations

import pytest

from bloomery.adapt.distillation import DistilConfig
from bloomery.core.errors import ConfigError


@pytest.mark.parametrize(
    "change",
    [
        {"validation_fraction": 1.0},
        {"beta": 1.5},
        {"label_weight": -0.1},
        {"temperature": 0.0},
        {"candidates": 1},
        {"samples": 0},
        {"max_new_tokens": 0},
        {"validation_fraction": 1.0},
    ],
)
def test_out_of_range(change):
    with pytest.raises(ConfigError):
        DistilConfig(**change)
