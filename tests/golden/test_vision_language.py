"""LLaVA against transformers: random weights both ways, logits within 1e-4, the same text out of greedy decoding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.models.cache import KVCache
from bloomery.models.vision_language import VisionLanguage, load_vision_language, save_vision_language
from bloomery.models.vision_language_config import VisionLanguageConfig

IMAGE_TOKEN = 89
TOWER: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 12,
    "patch_size": 4,
}
CLIP, SIGLIP = {"model_type": "clip_vision_model", **TOWER}, {"model_type": "siglip_vision_model", **TOWER}
TEXT: dict[str, Any] = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
QWEN3 = {"model_type": "qwen3", **TEXT, "head_dim": 8}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"text_config": {"model_type": "llama", **TEXT}, "vision_config": CLIP},
    "qwen2": {"text_config": {"model_type": "qwen2", **TEXT}, "vision_config": CLIP},
    "mistral": {"text_config": {"model_type": "mistral", **TEXT, "sliding_window": 9}, "vision_config": CLIP},
    "qwen3, tied": {"text_config": {**QWEN3, "tie_word_embeddings": True}, "vision_config": CLIP},
    "olmo2": {"text_config": {"model_type": "olmo2", **TEXT}, "vision_config": CLIP},
    "phi3": {"text_config": {"model_type": "phi3", **TEXT}, "vision_config": CLIP},
    "smollm3": {"text_config": {"model_type": "smollm3", **TEXT}, "vision_config": CLIP},
    "gemma3": {
        "text_config": {"model_type": "gemma3_text", **TEXT, "head_dim": 8, "query_pre_attn_scalar": 8},
        "vision_config": SIGLIP,
        "vision_feature_select_strategy": "full",
    },
    "gemma2": {
        "text_config": {"model_type": "gemma2", **TEXT, "head_dim": 8, "final_logit_softcapping": None},
        "vision_config": CLIP,
    },
    "gpt2": {
        "text_config": {
            "model_type": "gpt2",
            "vocab_size": 90,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "tie_word_embeddings": False,
        },
        "vision_config": CLIP,
    },
    "gpt_neox": {
        "text_config": {"model_type": "gpt_neox", **{k: TEXT[k] for k in TEXT if "key" not in k}, "rotary_pct": 0.5},
        "vision_config": CLIP,
    },
    "mixtral": {"text_config": {"model_type": "mixtral", **TEXT, "num_local_experts": 4}, "vision_config": CLIP},
    "siglip, last layer": {
        "text_config": QWEN3,
        "vision_config": SIGLIP,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
    },
    "siglip without its pooler": {
        "text_config": QWEN3,
        "vision_config": {**SIGLIP, "vision_use_head": False},
    },
    "two layers, no biases": {
        "text_config": QWEN3,
        "vision_config": CLIP,
        "vision_feature_layer": [0, -1],
        "multimodal_projector_bias": False,
        "projector_hidden_act": "relu",
    },
    "tied from without": {
        "text_config": {"model_type": "llama", **TEXT},
        "vision_config": CLIP,
        "tie_word_embeddings": True,
    },
}


def _theirs(shape: str) -> Any:
    import transformers

    torch.manual_seed(0)
    config = transformers.LlavaConfig(image_token_index=IMAGE_TOKEN, **SHAPES[shape])
    model = transformers.LlavaForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.1 if parameter.ndim < 2 else 0.08))
    return model.eval()


def _batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two texts with one and two images in different places."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, IMAGE_TOKEN, (2, 2 * count + 7), generator=generator)
    ids[0, 2 : 2 + count] = IMAGE_TOKEN
    ids[1, :count] = ids[1, count + 3 : 2 * count + 3] = IMAGE_TOKEN
    return ids, torch.randn(3, 3, 12, 12, generator=generator)


@torch.inference_mode()
def _compare(ours: VisionLanguage, theirs: Any) -> None:
    count = ours.config.num_image_tokens
    ids, pixels = _batch(count)
    expected = theirs(input_ids=ids, pixel_values=pixels).logits
    assert (ours(ids, pixels) - expected).abs().max() < 1e-4
    text = ids[:, -4:]
    assert (ours(text) - theirs(input_ids=text).logits).abs().max() < 1e-4
    row, image = ids[:1], pixels[:1]
    out = theirs.generate(
        input_ids=row,
        pixel_values=image,
        attention_mask=torch.ones_like(row),
        max_new_tokens=12,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert _greedy(ours, row, image, 12) == out[0, row.size(1) :].tolist()


def _greedy(model: VisionLanguage, ids: torch.Tensor, pixels: torch.Tensor, count: int) -> list[int]:
    cache = KVCache(model.config.text_config, 1, ids.size(1) + count)
    logits, found = model(ids, pixels, cache=cache, last_only=True), []
    for _ in range(count):
        found.append(int(logits[0, -1].argmax()))
        logits = model(torch.tensor([found[-1:]]), cache=cache, last_only=True)
    return found


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.replace(" ", "-"))
def test_both_ways(shape: str, tmp_path: Path):
    import transformers

    theirs = _theirs(shape)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_vision_language(tmp_path / "theirs")
    _compare(ours, theirs)
    save_vision_language(ours, tmp_path / "ours")
    back, told = transformers.LlavaForConditionalGeneration.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    _compare(ours, back.eval())
    _compare(load_vision_language(tmp_path / "ours"), theirs)


def test_defaults_are_theirs():
    import transformers

    text = {"model_type": "llama", "vocab_size": 32064}  # the usual 32,000 have no image token among them
    theirs = transformers.LlavaConfig(text_config=text).to_dict()
    ours = VisionLanguageConfig.from_hf({"model_type": "llava", "vision_config": None, "text_config": text})
    assert VisionLanguageConfig.from_hf({**theirs, "model_type": "llava"}).to_hf() == ours.to_hf()
    document = ours.to_hf()
    for part in ("text_config", "vision_config"):
        table = document.pop(part)
        known = {key: value for key, value in table.items() if key in theirs[part]}
        assert {key: theirs[part][key] for key in known} == known
    document.pop("architectures")
    assert {key: theirs[key] for key in document} == document


def test_the_published_number_of_parameters():
    """llava-hf/llava-1.5-7b-hf: Vicuna 7B with 64 more rows, CLIP's ViT-L/14 at 336 pixels, and the projector."""
    text = {"model_type": "llama", "vocab_size": 32064, "max_position_embeddings": 4096}
    with torch.device("meta"):
        model = VisionLanguage(VisionLanguageConfig.from_hf({"model_type": "llava", "text_config": text}))
    assert sum(p.numel() for p in model.parameters()) == 7_063_427_072
    assert model.config.num_image_tokens == 576
