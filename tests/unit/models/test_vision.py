"""The image encoder by itself; that it equals the published ones is in tests/golden/test_vision.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bloomery.core.errors import ConfigError, DataError, RequestError
from bloomery.models.vision import VisionEncoder, load_vision, save_vision
from bloomery.models.vision_config import VisionConfig

TINY: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}


def _encoder(**changes: Any) -> VisionEncoder:
    torch.manual_seed(0)
    return VisionEncoder(VisionConfig(**{**TINY, **changes}))


def test_shapes():
    pixels = torch.randn(2, 3, 8, 8)
    assert _encoder().hidden_states(pixels).shape == (2, 5, 16)
    assert _encoder(model_type="siglip_vision_model").hidden_states(pixels).shape == (2, 4, 16)
    for config in (
        {"head": "pooler", "pooler_output_size": 5},
        {"head": "classes", "num_labels": 7},
        {"model_type": "clip_vision_model", "head": "projection", "projection_dim": 6},
        {"model_type": "clip_vision_model"},
        {"model_type": "siglip_vision_model"},
    ):
        encoder = _encoder(**config)
        assert encoder(pixels).shape == (2, encoder.output_size)


def test_positions_matter_and_pixels_that_fill_no_patch_do_not():
    encoder = _encoder(image_size=9, model_type="siglip_vision_model")
    pixels = torch.randn(1, 3, 9, 9)
    cut = pixels.clone()
    cut[..., 8] = 0.0
    turned = pixels.clone()
    turned[..., :8, :4], turned[..., :8, 4:8] = pixels[..., :8, 4:8], pixels[..., :8, :4]
    with torch.no_grad():
        assert torch.equal(encoder(pixels), encoder(cut))
        assert (encoder(pixels) - encoder(turned)).abs().max() > 1e-4


def test_the_layers_that_are_asked_for():
    encoder, pixels = _encoder(), torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        first, last, again = encoder.layer_states(pixels, [1, -1, 1])
        assert torch.equal(first, again) and not torch.equal(first, last)
        assert torch.equal(encoder.norm(last), encoder.hidden_states(pixels))
    with pytest.raises(RequestError, match="no layer 4"):
        encoder.layer_states(pixels, [4])


def test_what_is_no_image():
    with pytest.raises(RequestError, match="3, 8, 8"):
        _encoder()(torch.zeros(1, 3, 8, 9))
    with pytest.raises(ConfigError, match="pooled"):
        _encoder()(torch.zeros(1, 3, 8, 8))


def test_random_weights_leave_the_stream_in_its_place():
    encoder = _encoder(model_type="clip_vision_model", hidden_size=64, num_hidden_layers=12)
    with torch.no_grad():
        states = encoder.layer_states(torch.randn(4, 3, 8, 8), [0, -1])
    assert 0.9 < states[0].std() < 1.1 and states[1].std() < 2.0


def test_a_vit_without_a_pooler_and_a_classifier_with_one(tmp_path: Path):
    save_vision(_encoder(head="pooler"), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    bare = {key: value for key, value in tensors.items() if "pooler" not in key}
    save_file(bare, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert load_vision(tmp_path).config.head == "none"
    save_vision(_encoder(head="classes"), tmp_path)
    tensors = {**load_file(tmp_path / "model.safetensors"), "vit.pooler.dense.bias": torch.zeros(16)}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert load_vision(tmp_path).config.head == "classes"


def test_files_without_the_prefix_or_with_one_tensor_too_many(tmp_path: Path):
    encoder = _encoder(model_type="clip_vision_model").eval()
    save_vision(encoder, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    short = {key.removeprefix("vision_model."): value for key, value in tensors.items()}
    short["embeddings.position_ids"] = torch.arange(5.0)
    save_file(short, tmp_path / "model.safetensors", metadata={"format": "pt"})
    pixels = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(load_vision(tmp_path)(pixels), encoder(pixels))
    save_file({**short, "odd": torch.zeros(1)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match="odd"):
        load_vision(tmp_path)
