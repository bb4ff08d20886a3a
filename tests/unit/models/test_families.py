"""Families' defaults are those of transformers' config classes."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError
from bloomery.models.families import FAMILIES, family_of


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_defaults(name: str):
    from transformers import AutoConfig, AutoModelForCausalLM

    reference = AutoConfig.for_model(name)
    family = FAMILIES[name]
    for key, value in family.defaults.items():
        theirs = reference.rope_parameters["rope_theta"] if key == "rope_theta" else getattr(reference, key)
        assert theirs == value, key
    assert hasattr(reference, "mlp_bias") == family.mlp_bias_key
    assert AutoModelForCausalLM._model_mapping[type(reference)].__name__ == family.architecture


def test_unknown_family():
    with pytest.raises(ConfigError, match="qwen33") as caught:
        family_of("qwen33")
    assert 'did you mean "qwen3"?' in caught.value.hint
    for odd in (None, 3, ["llama"]):
        with pytest.raises(ConfigError):
            family_of(odd)
