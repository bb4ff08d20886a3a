"""GGUF of what a LLaVA sees with: its image encoder and projector in the second file that llama.cpp wants ("mmproj").

Read from the loader and graph of llama.cpp's mtmd. It computes GELU by its tanh form, so vectors agree to about three
digits where the encoder or the projector has the exact one. This module does not know decoders.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.models.image_processor import ImageProcessor
from bloomery.models.vision_language import VisionLanguage
from bloomery.models.vision_language_config import VisionLanguageConfig

CLIP, MMPROJ = "clip", "mmproj-"
"""The architecture's name, and what is put before the file's."""
_GELU = ("gelu", "gelu_new", "gelu_pytorch_tanh")
_ACTIVATIONS = {"quick_gelu": None, "silu": "add_vision_use_silu", **dict.fromkeys(_GELU, "add_vision_use_gelu")}
_WHOLE = {
    "embed_patches": "v.patch_embd",
    "embed_positions": "v.position_embd",
    "embed_norm": "v.pre_ln",
}
_PARTS = {
    "input_layernorm": "ln1",
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_out",
    "post_attention_layernorm": "ln2",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}


def check_projector(config: VisionLanguageConfig, processor: ImageProcessor) -> None:
    """ConfigError for what llama.cpp's LLaVA cannot compute."""
    vision, layers = config.vision_config, _layers(config)
    first = vision.family.cls_token
    lacking = None
    if vision.image_shape[0] != vision.image_shape[1] or vision.patch_shape[0] != vision.patch_shape[1]:
        lacking = "pictures or patches that are not square"
    elif vision.num_channels != 3:
        lacking = f"num_channels {vision.num_channels}"
    elif vision.hidden_act not in _ACTIVATIONS:
        lacking = f"the image encoder's hidden_act {vision.hidden_act}"
    elif config.projector_hidden_act not in _GELU:
        lacking = f"projector_hidden_act {config.projector_hidden_act}"
    elif (config.vision_feature_select_strategy == "default") != first:
        lacking = f"vision_feature_select_strategy {config.vision_feature_select_strategy} for this image encoder"
    elif layers != sorted(set(layers)) or layers[-1] < 1:
        lacking = f"vision_feature_layer {config.vision_feature_layer}"
    elif not (processor.do_resize and processor.do_rescale and processor.do_normalize):
        lacking = "pictures that are not resized, scaled and normalised"
    if lacking is not None:
        raise ConfigError(f"llama.cpp's LLaVA does not know {lacking}", hint="export a folder instead")


def _layers(config: VisionLanguageConfig) -> list[int]:
    """After which layers its vectors are taken, counted from nought, which is before the first."""
    count = config.vision_config.num_hidden_layers + 1
    return [layer % count for layer in config.layers]


def write_projector(gguf: Any, writer: Any, config: VisionLanguageConfig, processor: ImageProcessor) -> None:
    """The sizes and options under llama.cpp's keys."""
    vision, layers = config.vision_config, _layers(config)
    writer.add_type(gguf.GGUFType.MMPROJ)
    writer.add_clip_has_vision_encoder(True)
    writer.add_bool("clip.has_text_encoder", False)
    writer.add_bool("clip.has_llava_projector", True)
    writer.add_clip_projector_type("mlp")
    writer.add_vision_image_size(vision.image_shape[0])
    writer.add_vision_patch_size(vision.patch_shape[0])
    writer.add_vision_embedding_length(vision.hidden_size)
    writer.add_vision_feed_forward_length(vision.intermediate_size)
    writer.add_vision_projection_dim(config.text_config.hidden_size)
    writer.add_vision_block_count(layers[-1])
    writer.add_vision_head_count(vision.num_attention_heads)
    writer.add_vision_attention_layernorm_eps(vision.layer_norm_eps)
    writer.add_array("clip.vision.feature_layer", layers)
    writer.add_vision_image_mean(list(processor.image_mean))
    writer.add_vision_image_std(list(processor.image_std))
    if (says := _ACTIVATIONS[vision.hidden_act]) is not None:
        getattr(writer, says)(True)
    else:
        writer.add_vision_use_gelu(False)


def projector_tensors(model: VisionLanguage) -> Iterator[tuple[str, Tensor]]:
    """The image encoder up to the last layer that is looked at, and the projector, under llama.cpp's names."""
    tower, last = model.vision_tower, _layers(model.config)[-1]
    for name, parameter in tower.named_parameters():
        path, _, kind = name.rpartition(".")
        tensor = parameter.detach()
        if name == "cls_token":
            yield "v.class_embd", tensor.float()
        elif path in _WHOLE:
            # Its convolution has no bfloat16, and positions are added in float32.
            plain = path == "embed_positions" or tensor.dtype == torch.bfloat16
            yield f"{_WHOLE[path]}.{kind}", tensor.float() if plain else tensor
        elif path.startswith("layers.") and int(path.split(".")[1]) < last:
            yield f"v.blk.{path.split('.')[1]}.{_PARTS[path.rpartition('.')[2]]}.{kind}", tensor
    for number, linear in ((0, model.multi_modal_projector.linear_1), (2, model.multi_modal_projector.linear_2)):
        yield f"mm.{number}.weight", linear.weight.detach()
        bias = linear.bias.detach() if linear.bias is not None else torch.zeros(linear.out_features)
        yield f"mm.{number}.bias", bias  # it is always added
