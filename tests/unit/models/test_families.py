"""Families' defaults are those of transformers' config classes."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError
from bloomery.models.config import ModelConfig
from bloomery.models.families import FAMILIES, family_of

PUBLISHED = sorted(name for name, family in FAMILIES.items() if family.published)


@pytest.mark.parametrize("name", PUBLISHED)
def test_defaults(name: str):
    from transformers import AutoConfig, AutoModelForCausalLM

    reference = AutoConfig.for_model(name)
    family = FAMILIES[name]
    theirs = {ours: theirs for theirs, ours in (family.aliases | family.renamed).items()}
    rope = getattr(reference, "rope_parameters", None) or {}
    for key, value in family.defaults.items():
        if key in ("rope_theta", "partial_rotary_factor") and "full_attention" not in rope:
            # Frequencies of GPT-NeoX: transformers 5 has no default share of its own; the older rotary_pct was 0.25.
            assert rope.get(key, 0.25) == value, key
        elif key in ("rope_theta", "rope_local_base_freq"):
            assert rope["full_attention" if key == "rope_theta" else "sliding_attention"]["rope_theta"] == value
        elif key in family.fixed or (key in ("attention_bias", "mlp_bias") and key not in reference.to_dict()):
            continue  # not in the reference's config: the golden tests compare what it does
        elif (key, name) in (("norm_topk_prob", "mixtral"), ("max_position_embeddings", "bloom")):
            continue  # likewise
        elif key == "sliding_window" and family.window_keys:
            assert getattr(AutoConfig.for_model(name, use_sliding_window=True), key) == value
        else:
            assert getattr(reference, key if hasattr(reference, key) else theirs[key]) == value, key
    assert AutoModelForCausalLM._model_mapping[type(reference)].__name__ == family.architecture


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_key_of_the_reference_is_known(name: str):
    """A config.json as transformers writes it, every key spelt out, is read; so is what we make of it."""
    from transformers import AutoConfig

    written = AutoConfig.for_model(name).to_dict()
    config = ModelConfig.from_hf({**written, "model_type": name})
    assert ModelConfig.from_hf(config.to_hf()) == config


def test_unknown_family():
    with pytest.raises(ConfigError, match="qwen33") as caught:
        family_of("qwen33")
    assert 'did you mean "qwen3"?' in caught.value.hint
    for odd in (None, 3, ["llama"]):
        with pytest.raises(ConfigError):
            family_of(odd)
