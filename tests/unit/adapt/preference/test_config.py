"""PreferenceConfig: what is out of range is said."""

from __future__ import annotations

import pytest

from bloomery.adapt.preference import PreferenceConfig
from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import ConfigError


@pytest.mark.parametrize("change", [{"validation_fraction": 1.0}, {"validation_fraction": -0.1}, {"max_tokens": 4}])
def test_out_of_range(change):
    with pytest.raises(ConfigError):
        PreferenceConfig(**change)


def test_a_recipe_s_table_gives_it_and_names_what_it_does_not_know():
    config = PreferenceConfig(method="kto", beta=0.2)
    assert from_dict(PreferenceConfig, to_dict(config)) == config
    with pytest.raises(ConfigError, match="methd"):
        from_dict(PreferenceConfig, {"methd": "dpo"})
