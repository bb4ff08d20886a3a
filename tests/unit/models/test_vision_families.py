"""Names and layouts of the image encoders' tensors, without a model."""

from __future__ import annotations

import pytest
import torch

from bloomery.core.errors import ConfigError, DataError
from bloomery.models.naming import Names
from bloomery.models.vision_config import VisionConfig
from bloomery.models.vision_families import VISION_FAMILIES, prefixed, reshaped, vision_family_of


def test_a_tensor_with_leading_ones():
    names = Names([reshaped("theirs", "ours", 2)])
    assert dict(names.read("theirs", torch.arange(3.0)[None, None]))["ours"].shape == (3,)
    assert names.write({"ours": torch.zeros(3)})["theirs"].shape == (1, 1, 3)
    with pytest.raises(DataError):
        list(names.read("theirs", torch.zeros(2, 1, 3)))


def test_every_rule_is_of_one_tensor_and_one_name():
    for kind, family in VISION_FAMILIES.items():
        config = VisionConfig.from_hf({"model_type": kind})
        rules = list(family.rules(config, family.prefix))
        assert len({rule.theirs for rule in rules}) == len(rules)
        ours = [name for rule in rules for name in rule.ours]
        assert len(set(ours)) == len(ours)


def test_rules_of_a_part():
    (rule,) = prefixed(iter([reshaped("a", "b", 1)]), "whole.", "all.")
    assert (rule.theirs, rule.ours) == ("whole.a", ("all.b",))
    assert rule.read(torch.zeros(1, 4))[0].shape == (4,)


def test_a_family_that_is_not_known():
    with pytest.raises(ConfigError) as error:
        vision_family_of("vitt")
    assert "vit" in error.value.hint
