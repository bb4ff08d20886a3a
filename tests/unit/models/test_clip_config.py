"""ClipConfig: what is read, what is refused, and what is written."""

from __future__ import annotations

from typing import Any

import pytest

from bloomery.core.errors import ConfigError
from bloomery.models.clip_config import ClipConfig

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def _values(kind: str, **changes: Any) -> dict[str, Any]:
    """A config.json; a change is "text.key", "vision.key" or a key of the whole."""
    values: dict[str, Any] = {
        "model_type": kind,
        "text_config": {**SIZES, "vocab_size": 32},
        "vision_config": {**SIZES, "image_size": 8, "patch_size": 4},
    }
    for key, value in changes.items():
        part, _, name = key.rpartition("__")
        (values[f"{part}_config"] if part else values)[name] = value
    return values


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_what_is_written_is_read_again(kind: str):
    config = ClipConfig.from_hf(_values(kind))
    assert ClipConfig.from_hf(config.to_hf()).to_hf() == config.to_hf()
    assert config.output_size == (512 if kind == "clip" else 16)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "clipp"}, "model_type"),
        ({"temperature_init": 3.0}, "temperature_init"),
        ({"text__rope_theta": 3.0}, "rope_theta"),
        ({"vision__rope_theta": 3.0}, "rope_theta"),
        ({"text__model_type": "bert"}, "bert"),
        ({"vision__model_type": "vit"}, "vit"),
        ({"architectures": ["CLIPForImageClassification"]}, "CLIPForImageClassification"),
        ({"text_config": [1]}, "table"),
        ({"text__eos_token_id": None}, "eos_token_id"),
        ({"text__eos_token_id": [3, 4]}, "eos_token_id"),
        ({"text__num_attention_heads": 3}, "num_attention_heads"),
        ({"projection_dim": 0}, "projection_dim"),
        ({"logit_scale_init_value": "high"}, "logit_scale_init_value"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        ClipConfig.from_hf(_values("clip", **changes))


def test_towers_that_do_not_meet():
    with pytest.raises(ConfigError, match="a text's vector has 24 numbers, an image's 16"):
        ClipConfig.from_hf(_values("siglip", text__hidden_size=24))
    assert ClipConfig.from_hf(_values("siglip", text__hidden_size=24, text__projection_size=16)).output_size == 16
    with pytest.raises(ConfigError, match="vision_use_head"):
        ClipConfig.from_hf(_values("siglip", vision__vision_use_head=False))
    with pytest.raises(ConfigError, match="projection_dim"):
        ClipConfig.from_hf(_values("siglip", projection_dim=3))
