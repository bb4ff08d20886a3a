"""ViT, CLIP and SigLIP against transformers: random weights both ways, hidden states and logits within 1e-4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.models.clip import load_clip, save_clip
from bloomery.models.clip_config import ClipConfig
from bloomery.models.vision import load_vision, save_vision
from bloomery.models.vision_config import VisionConfig

IMAGE: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 4,
}
TEXT: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 14,
    "pad_token_id": 1,
    "bos_token_id": 2,
    "eos_token_id": 59,
}
SHAPES = {
    "square": IMAGE,
    "pixels left over": {**IMAGE, "image_size": 19, "num_attention_heads": 2},
    "one patch, one layer, grey": {**IMAGE, "patch_size": 16, "num_hidden_layers": 1, "num_channels": 1},
    "large patches, one head": {**IMAGE, "patch_size": 7, "image_size": 21, "num_attention_heads": 1},
    "other activation": {**IMAGE, "hidden_act": "relu", "layer_norm_eps": 1e-3, "num_hidden_layers": 3},
}
PAIRS = {
    "not square": {**IMAGE, "image_size": [12, 20], "patch_size": [3, 5]},
    "no biases, wide pooler": {**IMAGE, "qkv_bias": False, "pooler_output_size": 9, "pooler_act": "relu"},
}
TOWERS = {
    "ViTModel": ("vit", {**SHAPES, **PAIRS}),
    "ViTForImageClassification": ("vit", {"five": {**IMAGE, "num_labels": 5}, "two": {**PAIRS["not square"]}}),
    "CLIPVisionModel": ("clip_vision_model", SHAPES),
    "CLIPVisionModelWithProjection": (
        "clip_vision_model",
        {"narrow": {**IMAGE, "projection_dim": 7}, "usual": SHAPES["pixels left over"]},
    ),
    "SiglipVisionModel": ("siglip_vision_model", {**SHAPES, "no head": {**IMAGE, "vision_use_head": False}}),
}
TOWER_CASES = [(name, shape) for name, (_, shapes) in TOWERS.items() for shape in shapes]
WHOLES = {
    "clip": {
        "plain": {"text_config": TEXT, "vision_config": IMAGE, "projection_dim": 20},
        "highest id": {"text_config": {**TEXT, "eos_token_id": 2, "bos_token_id": 0}, "vision_config": IMAGE},
        "end in the middle of the ids": {"text_config": {**TEXT, "eos_token_id": 30}, "vision_config": IMAGE},
        "other": {
            "text_config": {**TEXT, "hidden_act": "gelu", "num_hidden_layers": 1, "hidden_size": 48},
            "vision_config": SHAPES["other activation"],
            "projection_dim": 64,
            "logit_scale_init_value": 1.0,
        },
    },
    "siglip": {
        "plain": {"text_config": {**TEXT, "hidden_size": 24}, "vision_config": IMAGE},
        "own width": {"text_config": {**TEXT, "projection_size": 24}, "vision_config": SHAPES["pixels left over"]},
        "one head": {
            "text_config": {**TEXT, "projection_size": 24, "num_attention_heads": 1},
            "vision_config": SHAPES["large patches, one head"],
        },
    },
}
WHOLE_CASES = [(family, shape) for family, shapes in WHOLES.items() for shape in shapes]


def noisy(model: Any) -> Any:
    """Biases, norms and scales that are not their first values."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.1 if parameter.ndim < 2 else 0.06))
    return model.eval()


def _pixels(config: Any) -> torch.Tensor:
    size = config.image_size if not isinstance(config.image_size, int) else [config.image_size] * 2
    return torch.randn(3, config.num_channels, *size, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def _compare_towers(ours: Any, theirs: Any) -> None:
    pixels = _pixels(theirs.config)
    out = theirs(pixels, output_hidden_states=True)
    if getattr(out, "last_hidden_state", None) is not None:
        assert (ours.hidden_states(pixels) - out.last_hidden_state).abs().max() < 1e-4
    picked = [0, 1, -1]
    for layer, state in zip(picked, ours.layer_states(pixels, picked), strict=True):
        assert (state - out.hidden_states[layer]).abs().max() < 1e-4
    said = [out.get(key) for key in ("logits", "image_embeds", "pooler_output")]
    expected = next((one for one in said if one is not None), None)
    if expected is not None:
        got = ours(pixels)
        assert got.shape == expected.shape and got.size(1) == ours.output_size
        assert (got - expected).abs().max() < 1e-4


@pytest.mark.parametrize(("name", "shape"), TOWER_CASES, ids=lambda s: s.replace(" ", "-"))
def test_image_encoders_both_ways(name: str, shape: str, tmp_path: Path):
    import transformers

    torch.manual_seed(0)
    kind, shapes = TOWERS[name]
    cls = getattr(transformers, name)
    theirs = noisy(cls(cls.config_class(**shapes[shape])))
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_vision(tmp_path / "theirs")
    assert ours.config.model_type == kind
    _compare_towers(ours, theirs)
    save_vision(ours, tmp_path / "ours")
    back, told = cls.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    _compare_towers(ours, back.eval())


def _texts(eos: int) -> dict[str, torch.Tensor]:
    """Texts of several lengths, padded at the end, one of them with two end tokens."""
    ids = torch.randint(3, 30, (4, 11), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    for row, end in enumerate((10, 6, 2, 9)):
        ids[row, end] = 59 if eos == 2 else eos
        ids[row, end + 1 :], mask[row, end + 1 :] = 1, 0
    ids[3, 4] = ids[3, 9]
    return {"input_ids": ids, "attention_mask": mask}


@torch.inference_mode()
def _compare_wholes(ours: Any, theirs: Any) -> None:
    pixels, texts = _pixels(theirs.config.vision_config), _texts(theirs.config.text_config.eos_token_id)
    out = theirs(pixel_values=pixels, **texts)
    assert (ours(pixels, **texts) - out.logits_per_image).abs().max() < 1e-4
    assert (ours.image_features(pixels) - theirs.get_image_features(pixels).pooler_output).abs().max() < 1e-4
    assert (ours.text_features(**texts) - theirs.get_text_features(**texts).pooler_output).abs().max() < 1e-4
    real = texts["attention_mask"].bool()
    hidden = ours.text_model.hidden_states(**texts)[real]
    assert (hidden - out.text_model_output.last_hidden_state[real]).abs().max() < 1e-4
    bare = texts["input_ids"]  # as SigLIP's texts are read: padding is seen like any token
    assert (ours.text_features(bare) - theirs.get_text_features(bare).pooler_output).abs().max() < 1e-4


@pytest.mark.parametrize(("family", "shape"), WHOLE_CASES, ids=lambda s: s.replace(" ", "-"))
def test_two_towers_both_ways(family: str, shape: str, tmp_path: Path):
    import transformers

    torch.manual_seed(0)
    cls = {"clip": transformers.CLIPModel, "siglip": transformers.SiglipModel}[family]
    theirs = noisy(cls(cls.config_class(**WHOLES[family][shape])))
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_clip(tmp_path / "theirs")
    _compare_wholes(ours, theirs)
    save_clip(ours, tmp_path / "ours")
    back, told = cls.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    _compare_wholes(ours, back.eval())


def test_padding_in_front_is_not_seen_by_clip(tmp_path: Path):
    import transformers

    torch.manual_seed(0)
    theirs = noisy(transformers.CLIPModel(transformers.CLIPConfig(**WHOLES["clip"]["plain"])))
    theirs.save_pretrained(tmp_path)
    ours = load_clip(tmp_path)
    texts = _texts(59)
    for row, length in enumerate((11, 7, 3, 10)):
        for key, empty in (("input_ids", 1), ("attention_mask", 0)):
            texts[key][row] = torch.cat([torch.full((11 - length,), empty), texts[key][row, :length]])
    with torch.inference_mode():
        expected = theirs.get_text_features(**texts).pooler_output
        assert (ours.text_features(**texts) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("kind", ["vit", "clip_vision_model", "siglip_vision_model"])
def test_image_defaults_are_theirs(kind: str):
    import transformers

    theirs = transformers.AutoConfig.for_model(kind).to_dict()
    ours = VisionConfig.from_hf({"model_type": kind}).to_hf()
    assert {key: theirs[key] for key in ours if key != "architectures"} == {
        key: value for key, value in ours.items() if key != "architectures"
    }
    assert VisionConfig.from_hf(theirs).to_hf() == ours


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_two_tower_defaults_are_theirs(kind: str):
    import transformers

    theirs = transformers.AutoConfig.for_model(kind).to_dict()
    ours = ClipConfig.from_hf({"model_type": kind})
    document = ours.to_hf()
    for part in ("text_config", "vision_config"):
        table = document.pop(part)
        assert {key: theirs[part][key] for key in table} == table
    document.pop("architectures")
    assert {key: theirs[key] for key in document} == document
    assert ClipConfig.from_hf(theirs).to_hf() == ours.to_hf()


def test_the_older_tables_beside_the_towers():
    """openai/clip-vit-large-patch14 says its sizes twice; what the second leaves out is the default again."""
    import transformers

    values = {
        "model_type": "clip",
        "text_config": {"hidden_size": 768, "num_attention_heads": 12, "eos_token_id": 2, "vocab_size": 100},
        "text_config_dict": {"hidden_size": 768, "num_attention_heads": 12},
        "vision_config": {"hidden_size": 64, "patch_size": 14, "num_attention_heads": 2},
        "vision_config_dict": {"hidden_size": 1024, "num_attention_heads": 16},
    }
    theirs = transformers.CLIPConfig.from_dict({key: value for key, value in values.items() if key != "model_type"})
    ours = ClipConfig.from_hf(values)
    for name in ("hidden_size", "num_attention_heads", "eos_token_id", "vocab_size"):
        assert getattr(ours.text_config, name) == getattr(theirs.text_config, name)
    for name in ("hidden_size", "num_attention_heads", "patch_size"):
        assert getattr(ours.vision_config, name) == getattr(theirs.vision_config, name)


def test_published_numbers_of_parameters():
    """openai/clip-vit-base-patch32, google/siglip-base-patch16-224 and google/vit-base-patch16-224, as their pages and
    papers give them; LLaVA 1.5 7B is in tests/golden/test_vision_language.py."""
    from bloomery.models.clip import Clip
    from bloomery.models.vision import VisionEncoder

    head = {"architectures": ["ViTForImageClassification"], "num_labels": 1000}
    with torch.device("meta"):
        counts = {
            "clip": Clip(ClipConfig.from_hf({"model_type": "clip"})),
            "siglip": Clip(ClipConfig.from_hf({"model_type": "siglip"})),
            "vit": VisionEncoder(VisionConfig.from_hf({"model_type": "vit", **head})),
        }
    found = {name: sum(p.numel() for p in model.parameters()) for name, model in counts.items()}
    assert found == {"clip": 151_277_313, "siglip": 203_155_970, "vit": 86_567_656}
