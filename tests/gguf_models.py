"""Tiny random models of every family that is written as GGUF, for the tests that read them back.

Test folders read it with `runpy`, for pytest's import mode knows no helper modules.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "rope_theta": 5e4,
}
_GPT2 = {
    "n_embd": 32,
    "n_inner": 48,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 256,
}
_NEOX = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "rotary_pct": 0.5,
    "tie_word_embeddings": False,
}
_BLOOM = {"hidden_size": 32, "n_layer": 3, "n_head": 4, "seq_length": 256}
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_LINEAR = {"rope_type": "linear", "factor": 2.0}
_MOE = {"num_experts_per_tok": 2}
_GEMMA = {"query_pre_attn_scalar": 8, "sliding_window": 16}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama tied, biases": ("llama", {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
    "llama 3 rope": ("llama", {"rope_scaling": _LLAMA3}),
    "llama linear rope": ("llama", {"rope_scaling": _LINEAR}),
    "llama yarn": ("llama", {"rope_scaling": _YARN}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral window": ("mistral", {"sliding_window": 128}),
    "mixtral": ("mixtral", {**_MOE, "num_local_experts": 4, "sliding_window": None}),
    "qwen2": ("qwen2", {}),
    "qwen2 yarn": ("qwen2", {"rope_scaling": _YARN}),
    "qwen3": ("qwen3", {}),
    "qwen3_moe": ("qwen3_moe", {**_MOE, "num_experts": 4, "moe_intermediate_size": 24, "norm_topk_prob": True}),
    "gemma2": ("gemma2", _GEMMA),
    "gemma3": ("gemma3_text", {**_GEMMA, "num_hidden_layers": 7, "rope_local_base_freq": 1e4}),
    "gemma3 other layers, scaled": (
        "gemma3_text",
        {
            **_GEMMA,
            "rope_local_base_freq": 1e4,
            "rope_scaling": _LINEAR,
            "layer_types": ["full_attention", "sliding_attention"] * 2,
        },
    ),
    "smollm3": ("smollm3", {}),
    "olmo2": ("olmo2", {}),
    "olmo2 tied": ("olmo2", {"tie_word_embeddings": True}),
    "phi3": ("phi3", {"partial_rotary_factor": 0.5, "sliding_window": None, "pad_token_id": None}),
    "gpt2": ("gpt2", _GPT2),
    "bloom": ("bloom", _BLOOM),
    "bloom, six heads": ("bloom", {**_BLOOM, "hidden_size": 48, "n_head": 6}),
    "gpt_neox": ("gpt_neox", _NEOX),
    "gpt_neox in series": ("gpt_neox", {**_NEOX, "use_parallel_residual": False}),
}
"""A name for each, its family, and the keys of its config.json beside SIZES."""


def random_model(folder: Path, family: str, *, tokenizer: Path | None = None, **changes: Any) -> Path:
    """A random model of a family with a byte-level tokenizer, or that of the folder `tokenizer`."""
    import torch

    from bloomery.models import Decoder, ModelConfig, save_pretrained
    from bloomery.tokenizer import Tokenizer
    from bloomery.tokenizer.train import TokenizerConfig, learn, write_tokenizer

    folder.mkdir()
    if tokenizer is None:
        text = ["Once upon a time there was a small furnace. Ein Ofen glüht über Nacht: 火 🔥 don't 1234"] * 4
        write_tokenizer(learn(text, TokenizerConfig(vocab_size=320)), folder)
    codec = Tokenizer.load(tokenizer or folder)
    codec.save(folder)
    sizes = {} if family in ("gpt2", "gpt_neox", "bloom") else SIZES
    config = ModelConfig.from_hf({"model_type": family, **sizes, "vocab_size": max(codec.vocab_size, 300), **changes})
    torch.manual_seed(0)
    decoder = Decoder(config)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    save_pretrained(decoder, folder)
    return folder


def rewritten(path: Path, target: Path, kind: str = "", *, leave: tuple[str, ...] = (), **values: Any) -> Path:
    """A GGUF file again, its matrices as ggml's type `kind`, without the keys and tensors `leave`; `values` are keys
    with "__" for each dot, "ARCH" for the architecture's name, and what they say instead."""
    import gguf
    import numpy as np

    reader = gguf.GGUFReader(path)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, values.pop("general__architecture", architecture))
    changed = {key.replace("__", ".").replace("ARCH", architecture): value for key, value in values.items()}
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key not in (*leave, *changed, "general.architecture"):
            writer.add_key_value(key, field.contents(), field.types[0], field.types[-1])
    for key, value in changed.items():
        writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value))
    for tensor in reader.tensors:
        if tensor.name in leave:
            continue
        data = np.array(tensor.data)
        if kind and data.ndim > 1:
            number = gguf.GGMLQuantizationType[kind]
            writer.add_tensor(tensor.name, gguf.quants.quantize(data, number), raw_dtype=number)
        else:
            writer.add_tensor(tensor.name, data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


_TOWER: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 7,
}
SEES: dict[str, dict[str, Any]] = {
    "clip": {"vision_config": {"model_type": "clip_vision_model", **_TOWER}},
    "clip, other layers, no bias": {
        "vision_config": {"model_type": "clip_vision_model", **_TOWER, "hidden_act": "gelu"},
        "vision_feature_layer": [1, -1],
        "multimodal_projector_bias": False,
    },
    "siglip": {
        "vision_config": {"model_type": "siglip_vision_model", **_TOWER},
        "vision_feature_select_strategy": "full",
        "vision_feature_layer": -1,
        "text_config": {"model_type": "qwen3"},
    },
}
"""LLaVA's configs beside what `random_llava` gives them."""


def random_llava(folder: Path, **changes: Any) -> Path:
    """A random LLaVA with a byte-level tokenizer that has <image>."""
    import torch

    from bloomery.models.image_processor import ImageProcessor
    from bloomery.models.vision_language import VisionLanguage, save_vision_language
    from bloomery.models.vision_language_config import VisionLanguageConfig
    from bloomery.tokenizer.train import TokenizerConfig, learn, write_tokenizer

    folder.mkdir()
    text = ["Once upon a time there was a small furnace. Ein Ofen glüht über Nacht: 火 🔥 don't 1234"] * 4
    backend = learn(text, TokenizerConfig(vocab_size=320))
    backend.add_special_tokens(["<image>"])
    write_tokenizer(backend, folder)
    language = {"model_type": "llama", **SIZES, "vocab_size": 330, **changes.pop("text_config", {})}
    config = VisionLanguageConfig.from_hf(
        {"model_type": "llava", "image_token_id": backend.token_to_id("<image>"), "text_config": language, **changes}
    )
    torch.manual_seed(0)
    model = VisionLanguage(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    save_vision_language(model, folder)
    square = {"height": 28, "width": 28}
    kind = "CLIPImageProcessor" if config.vision_config.family.cls_token else "SiglipImageProcessor"
    values: dict[str, Any] = (
        {"size": {"shortest_edge": 28}, "crop_size": square} if "CLIP" in kind else {"size": square}
    )
    ImageProcessor.from_hf({"image_processor_type": kind, **values}).to_folder(folder)
    return folder
