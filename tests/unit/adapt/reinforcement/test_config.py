"""ReinforceConfig: what is out of range is said, and a recipe's table keeps the method's own defaults."""

from __future__ import annotations

import pytest

from bloomery.adapt.reinforcement import ReinforceConfig
from bloomery.core.config import from_dict
from bloomery.core.errors import ConfigError


@pytest.mark.parametrize(
    "change",
    [
        {"group": 1},
        {"group": 7},
        {"rewards": ()},
        {"iterations": 0},
        {"temperature": 0.0},
        {"clip_low": -0.1},
        {"validation_fraction": 1.0},
        {"max_new_tokens": 0},
    ],
)
def test_out_of_range(change):
    with pytest.raises(ConfigError):
        ReinforceConfig(**change)


def test_a_table_of_a_recipe_keeps_the_other_defaults():
    config = from_dict(ReinforceConfig, {"fit": {"steps": 7}})
    assert (config.fit.steps, config.fit.optimizer, config.fit.batch_rows) == (7, "adamw", 64)
