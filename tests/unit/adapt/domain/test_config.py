"""DomainConfig: what is out of range is said."""

from __future__ import annotations

import pytest

from bloomery.adapt.domain import DomainConfig
from bloomery.core.errors import ConfigError


@pytest.mark.parametrize("change", [{"replay": 1.0}, {"replay": -0.1}, {"report_documents": 1}, {"resamples": 10}])
def test_out_of_range(change):
    with pytest.raises(ConfigError):
        DomainConfig(**change)
