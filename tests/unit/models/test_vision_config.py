"""VisionConfig: what is read, what is refused, and what is written."""

from __future__ import annotations

from typing import Any

import pytest

from bloomery.core.errors import ConfigError
from bloomery.models.vision_config import VisionConfig, read_keys

TINY: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}


def test_grid_and_positions():
    config = VisionConfig(**{**TINY, "image_size": (9, 14)})
    assert config.grid == (2, 3) and config.num_positions == 7 and config.image_shape == (9, 14)
    assert VisionConfig(**TINY, model_type="siglip_vision_model").num_positions == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_attention_heads": 3}, "num_attention_heads"),
        ({"patch_size": 9}, "no patch"),
        ({"image_size": 0}, "image_size"),
        ({"image_size": (8, 8, 8)}, "image_size"),
        ({"image_size": 16000, "patch_size": 1}, "too many"),
        ({"model_type": "clip_vision_model", "image_size": (8, 8)}, "image_size"),
        ({"head": "poler"}, "unknown head"),
        ({"head": "projection"}, "has no head"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps"),
        ({"hidden_act": "gelu_"}, "activation"),
        ({"pooler_output_size": 0}, "pooler_output_size"),
        ({"model_type": "resnet"}, "model_type"),
    ],
)
def test_sizes_that_make_no_model(changes: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        VisionConfig(**{**TINY, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rope_theta": 1.0, "window": 3}, "rope_theta, window"),
        ({"is_decoder": True}, "is_decoder"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"architectures": ["ViTForMaskedImageModeling"]}, "ViTForMaskedImageModeling"),
        ({"architectures": "ViTModel"}, "architecture"),
        ({"hidden_size": "16"}, "hidden_size"),
        ({"vision_use_head": False}, "vision_use_head"),  # SigLIP's
    ],
)
def test_keys_that_are_refused(changes: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        VisionConfig.from_hf({"model_type": "vit", **TINY, **changes})


def test_labels_come_with_their_head_only():
    labels = {"0": "cat", "1": "dog", "2": "fox"}
    values = {"model_type": "vit", **TINY, "id2label": labels}
    config = VisionConfig.from_hf({**values, "architectures": ["ViTForImageClassification"]})
    assert config.num_labels == 3 and config.id2label == labels
    assert config.to_hf()["label2id"] == {"cat": 0, "dog": 1, "fox": 2}
    assert VisionConfig.from_hf(config.to_hf()).id2label == labels
    assert VisionConfig.from_hf(values).id2label is None


def test_what_older_files_repeat_has_no_effect():
    repeated = {"temperature": 1.0, "num_beams": 1, "pruned_heads": {}, "torchscript": False, "finetuning_task": None}
    assert VisionConfig.from_hf({"model_type": "vit", **TINY, **repeated}) == VisionConfig.from_hf(
        {"model_type": "vit", **TINY}
    )


def test_a_null_key_is_absent_unless_null_says_something():
    assert read_keys({"a": None, "b": None, "odd": None}, {"a", "b"}, what="it", nullable={"b"}) == {"b": None}
