"""VisionLanguageConfig: what is read, what is refused, and what is written."""

from __future__ import annotations

from typing import Any

import pytest

from bloomery.core.errors import ConfigError
from bloomery.models.vision_language_config import VisionLanguageConfig

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def _values(**changes: Any) -> dict[str, Any]:
    """A config.json; a change is "text__key", "vision__key" or a key of the whole."""
    values: dict[str, Any] = {
        "model_type": "llava",
        "image_token_index": 9,
        "text_config": {**SIZES, "model_type": "llama", "vocab_size": 32},
        "vision_config": {**SIZES, "model_type": "clip_vision_model", "image_size": 8, "patch_size": 4},
    }
    for key, value in changes.items():
        part, _, name = key.rpartition("__")
        (values[f"{part}_config"] if part else values)[name] = value
    return values


@pytest.mark.parametrize("changes", [{}, {"vision_feature_layer": [0, -1]}, {"vision_feature_select_strategy": "full"}])
def test_what_is_written_is_read_again(changes: dict[str, Any]):
    config = VisionLanguageConfig.from_hf(_values(**changes))
    assert VisionLanguageConfig.from_hf(config.to_hf()) == config


def test_how_many_places_an_image_takes():
    assert VisionLanguageConfig.from_hf(_values()).num_image_tokens == 4
    assert VisionLanguageConfig.from_hf(_values(vision_feature_select_strategy="full")).num_image_tokens == 5
    siglip = _values(vision__model_type="siglip_vision_model")
    assert VisionLanguageConfig.from_hf(siglip).num_image_tokens == 3


def test_both_names_of_the_image_token_and_what_older_files_add():
    older = {"ignore_index": -100, "pad_token_id": 31, "vocab_size": 32, "image_seq_length": 4}
    values = _values(image_token_id=9, vision__vocab_size=32, **older)
    assert VisionLanguageConfig.from_hf(values) == VisionLanguageConfig.from_hf(_values())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "llava_next"}, "llava_next"),
        ({"architectures": ["LlavaModel"]}, "LlavaModel"),
        ({"image_token_index": 32}, "vocabulary of 32"),
        ({"image_token_id": 10}, "not the same"),
        ({"image_grid_pinpoints": [[1, 2]]}, "image_grid_pinpoints"),
        ({"vision_feature_layer": 4}, "vision_feature_layer"),
        ({"vision_feature_layer": []}, "vision_feature_layer"),
        ({"vision_feature_layer": "last"}, "vision_feature_layer"),
        ({"vision_feature_select_strategy": "cls"}, "vision_feature_select_strategy"),
        ({"projector_hidden_act": "gelo"}, "activation"),
        ({"text_config": 3}, "table"),
        ({"text__model_type": "bert"}, "bert"),
        ({"text__odd": 1}, "odd"),
        ({"vision__odd": 1}, "odd"),
        ({"vision__model_type": "vit"}, "vit"),
        ({"vision__model_type": "siglip_vision_model", "vision__patch_size": 8}, "no vectors"),
        ({"text_config": {**SIZES, "model_type": "gemma2", "num_key_value_heads": 2}}, "final_logit_softcapping"),
        ({"text_config": {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2}}, "tied"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        VisionLanguageConfig.from_hf(_values(**changes))
