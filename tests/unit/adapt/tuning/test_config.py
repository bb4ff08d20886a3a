"""What a tuning's config says where nothing is said."""

from __future__ import annotations

import pytest

from bloomery.adapt.tuning.config import METHODS, AdaptConfig, TuningFitConfig, usual_rate
from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import ConfigError


def test_there_and_back():
    config = from_dict(AdaptConfig, {"method": "dora", "fit": {"epochs": 1.0}, "lora": {"r": 4}})
    assert config.fit.optimizer == "adamw" and config.fit.keep_best
    assert config.adapter().use_dora and not config.lora.use_dora and config.adapter().r == 4
    assert from_dict(AdaptConfig, to_dict(config)) == config


def test_rates():
    assert usual_rate("full", 2048) == pytest.approx(5e-5)
    for method in METHODS[:3]:
        assert usual_rate(method, 2048) == pytest.approx(10 * usual_rate("full", 2048))
    assert usual_rate("full", 128) == pytest.approx(8 * usual_rate("full", 2048))
    assert usual_rate("lora", 128) == pytest.approx(4 * usual_rate("lora", 2048))
    config = AdaptConfig()
    assert config.rated(64).learning_rate == usual_rate("lora", 64)
    assert AdaptConfig(fit=TuningFitConfig(learning_rate=0.5)).rated(64).learning_rate == 0.5


def test_mistakes():
    for wrong in ({"context_length": 4}, {"validation_fraction": 1.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            AdaptConfig(**wrong)
    with pytest.raises(ConfigError, match="cannot be"):
        from_dict(AdaptConfig, {"method": "lorra"})
