"""What a config asks of a tokenizer, and which settings have no meaning."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError
from bloomery.tokenizer import TokenizerConfig
from bloomery.training import TrainConfig


def test_the_tokenizer_gets_what_the_objective_needs():
    given = TokenizerConfig(vocab_size=500)
    assert TrainConfig(objective="masked").tokenizer(given).masks
    assert TrainConfig(objective="spans").tokenizer(given).sentinels == 100
    assert TrainConfig(objective="spans").tokenizer(TokenizerConfig(sentinels=7)).sentinels == 7
    assert TrainConfig(objective="middle").tokenizer(given).fill_in_the_middle
    assert TrainConfig(objective="sequence", target_field="en").tokenizer(given).metadata_fields == ("en",)
    assert TrainConfig(objective="causal").tokenizer(given) == given


def test_field_names():
    assert TrainConfig(objective="sequence").field_name == "target"
    assert TrainConfig(objective="classes", target_field="intent").field_name == "intent"
    assert TrainConfig(objective="masked").field_name == ""
    with pytest.raises(ConfigError, match="no meaning"):
        TrainConfig(objective="spans", target_field="x")
    with pytest.raises(ConfigError, match="context_length"):
        TrainConfig(context_length=4)
