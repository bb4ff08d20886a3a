"""Sizes that make sense."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError
from bloomery.retrieve.cutting.config import CutConfig


@pytest.mark.parametrize(
    "change", [{"size_tokens": 7}, {"overlap_tokens": -1}, {"size_tokens": 20, "overlap_tokens": 11}]
)
def test_out_of_range(change):
    with pytest.raises(ConfigError):
        CutConfig(**change)
