"""SweepConfig refuses what makes no sense."""

from __future__ import annotations

import pytest

from bloomery.core.config import from_dict
from bloomery.core.errors import ConfigError
from bloomery.training.sweep import SweepConfig


def test_dials_come_as_they_stand_in_a_recipe():
    config = from_dict(SweepConfig, {"dials": {"pretrain.steps": [1, 2]}, "sampler": "grid"}, where="sweep")
    assert config.dials == {"pretrain.steps": [1, 2]} and config.trials == 24


@pytest.mark.parametrize("options", [{"trials": 0}, {"points": 1}, {"chance": 1.0}, {"tolerance": -0.1}, {"seed": -1}])
def test_settings_are_checked(options):
    with pytest.raises(ConfigError):
        SweepConfig(**options)
