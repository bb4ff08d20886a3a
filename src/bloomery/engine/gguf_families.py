"""GGUF families: what tells one of llama.cpp's architectures from another, as short descriptions.

A description says what llama.cpp calls the architecture, which tensors it wants joined or turned, and what of a family
it cannot compute: that is refused, never written wrongly. One layout serves both ways, out and in. Read from the
loaders and graphs of ggml-org/llama.cpp. This module knows neither files nor tokenizers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bloomery.core.errors import ConfigError, nearest
from bloomery.models import Decoder, ModelConfig
from bloomery.models.families import FULL, SLIDING
from bloomery.models.rope import RopeScaling, inverse_frequencies

_SILU = frozenset({"silu", "swish"})
# llama.cpp has the tanh form only; for families trained with the exact one it differs in the fourth digit.
_GELU = frozenset({"gelu_pytorch_tanh", "gelu_new", "gelu", "gelu_fast"})
_TANH_GELU = frozenset({"gelu_pytorch_tanh", "gelu_new"})
_QKV = ("q_proj", "k_proj", "v_proj")
_JOINED_QKV = {"attn_qkv": _QKV}
_ROTATED = ("q_proj", "k_proj")
EMBEDDING = "model.embed_tokens.weight"
ROPE_FACTORS = "rope_freqs.weight"
"""llama.cpp's tensor of Llama 3's scaling; see `wave_factors`."""


@dataclass(frozen=True, kw_only=True)
class GgufFamily:
    """What llama.cpp does with one of our families."""

    architecture: str
    activations: frozenset[str] = _SILU
    biases: frozenset[str] = frozenset()
    """The modules that may have a bias."""
    layer_norm: bool = False
    """Its norms are layer norms, else root-mean-square."""
    norm_offset: float = 0.0
    """What is added to the weight of each norm (Gemma keeps it less one)."""
    rotates_pairs: bool = False
    """Neighbouring dimensions are rotated against each other, not the halves of a head."""
    joined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Tensors of one layer that lie one after the other in a tensor of this name."""
    head: str = "either"
    """"either": an output of its own is optional; "own": there must be one; "embedding": there is none."""
    scalings: frozenset[str] = frozenset({"linear", "yarn"})
    """Kinds of rope scaling."""
    every: int = 0
    """Layers slide but for each so many-th, where the file does not say otherwise; 0: none can slide."""
    largest: int = 0
    """Layers of the one size whose scores are divided by the root of hidden_size / heads, not of head_dim (Gemma)."""
    lacks: Callable[[ModelConfig], str | None] = lambda config: None
    """What it cannot compute of a config, in a few words."""


def _square(config: ModelConfig) -> str | None:
    square = config.num_attention_heads * config.head_dim == config.hidden_size
    return None if square else "heads that are not hidden_size wide together"


def _experts(config: ModelConfig) -> str | None:
    if not all(config.is_sparse(layer) for layer in range(config.num_hidden_layers)):
        return "layers without experts among those with experts"
    return None if config.norm_topk_prob else "experts whose weights do not sum to one"


def scores_scalar(layers: int, hidden_size: int, heads: int, head_dim: int, family: GgufFamily) -> int:
    """What llama.cpp takes for query_pre_attn_scalar: it tells the largest Gemma by its number of layers."""
    return hidden_size // heads if family.largest == layers else head_dim


def _gemma_scale(config: ModelConfig) -> str | None:
    heads, family = config.num_attention_heads, GGUF_FAMILIES[config.model_type]
    expected = scores_scalar(config.num_hidden_layers, config.hidden_size, heads, config.head_dim, family)
    given = config.query_pre_attn_scalar or config.head_dim
    return None if given == expected else f"query_pre_attn_scalar {given} (it takes {expected})"


def _gemma2(config: ModelConfig) -> str | None:
    if config.attn_logit_softcapping is None or config.final_logit_softcapping is None:
        return "Gemma 2 without logit soft-capping"
    return _gemma_scale(config)


def _gemma3(config: ModelConfig) -> str | None:
    if config.attn_logit_softcapping is not None:
        return "attn_logit_softcapping in Gemma 3"
    if SLIDING in config.layer_types and config.rope_local_base_freq is None:
        return "sliding layers without rope_local_base_freq"
    return _gemma_scale(config)


def rotated_but_each_fourth(layers: int) -> tuple[int, ...]:
    """SmolLM3's no_rope_layers as llama.cpp takes them for granted."""
    return tuple(int((layer + 1) % 4 != 0) for layer in range(layers))


def _smollm3(config: ModelConfig) -> str | None:
    rotated = config.no_rope_layers or (1,) * config.num_hidden_layers
    fourth = rotated_but_each_fourth(config.num_hidden_layers)
    return None if rotated == fourth else "no_rope_layers other than every fourth"


_LLAMA = GgufFamily(
    architecture="llama",
    rotates_pairs=True,
    scalings=frozenset({"linear", "yarn", "llama3"}),
    biases=frozenset({*_QKV, "o_proj", "gate_proj", "up_proj", "down_proj"}),
)
_GPT = GgufFamily(
    architecture="gpt2",
    activations=_TANH_GELU,
    layer_norm=True,
    joined=_JOINED_QKV,
    biases=frozenset({*_QKV, "o_proj", "up_proj", "down_proj", "norm"}),
    lacks=_square,
)
_GEMMA = GgufFamily(
    architecture="gemma2",
    activations=_TANH_GELU,
    norm_offset=1.0,
    head="embedding",
    scalings=frozenset({"linear"}),
    every=2,
    largest=46,
    lacks=_gemma2,
)

GGUF_FAMILIES: dict[str, GgufFamily] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "mixtral": GgufFamily(
        architecture="llama", rotates_pairs=True, scalings=_LLAMA.scalings, biases=_LLAMA.biases, lacks=_experts
    ),
    "qwen2": GgufFamily(architecture="qwen2", biases=frozenset(_QKV)),
    "qwen3": GgufFamily(architecture="qwen3", biases=frozenset(_QKV)),
    "qwen3_moe": GgufFamily(architecture="qwen3moe", biases=frozenset(_QKV), lacks=_experts),
    "gemma2": _GEMMA,
    "gemma3_text": GgufFamily(
        architecture="gemma3",
        activations=_GEMMA.activations,
        norm_offset=1.0,
        scalings=_GEMMA.scalings,
        every=6,
        largest=62,
        lacks=_gemma3,
    ),
    "smollm3": GgufFamily(architecture="smollm3", rotates_pairs=True, biases=frozenset(_QKV), lacks=_smollm3),
    "olmo2": GgufFamily(architecture="olmo2", biases=frozenset(_QKV), head="own", lacks=_square),
    "phi3": GgufFamily(architecture="phi3", joined={**_JOINED_QKV, "ffn_up": ("gate_proj", "up_proj")}, lacks=_square),
    "gpt2": _GPT,
    "gpt_neox": GgufFamily(
        architecture="gptneox",
        activations=_GELU,
        layer_norm=True,
        joined=_JOINED_QKV,
        biases=_GPT.biases,
        head="own",
        lacks=_square,
    ),
    "bloom": GgufFamily(
        architecture="bloom",
        activations=_GELU,
        layer_norm=True,
        joined=_JOINED_QKV,
        biases=_GPT.biases,
        lacks=_square,
    ),
}
"""By our model_type."""

_PARTS = {
    "input_layernorm": "attn_norm",
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "q_norm": "attn_q_norm",
    "k_norm": "attn_k_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
    "gate": "ffn_gate_inp",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}
_WHOLE = {
    "model.embed_tokens": "token_embd",
    "model.embed_positions": "position_embd",
    "model.embed_norm": "token_embd_norm",
    "model.norm": "output_norm",
    "lm_head": "output",
}


def gguf_family(config: ModelConfig) -> GgufFamily:
    """What llama.cpp does with a config's family; ConfigError, naming it, for what it cannot compute."""
    family = GGUF_FAMILIES.get(config.model_type)
    elsewhere = "export a folder instead"
    if family is None:
        raise ConfigError(
            f"llama.cpp has no architecture for {config.model_type}", hint=nearest(config.model_type, GGUF_FAMILIES)
        )
    lacking = family.lacks(config)
    if lacking is None and config.hidden_act not in family.activations:
        lacking = f"hidden_act {config.hidden_act}"
    scaling = config.rope_scaling
    if lacking is None and scaling is not None:
        own = (scaling.attention_factor, scaling.mscale, scaling.mscale_all_dim)
        if scaling.rope_type not in family.scalings:
            lacking = f"rope scaling {scaling.rope_type}"
        elif any(value is not None for value in own) or scaling.truncate is False:
            lacking = "a yarn whose attention factor or ramp is not the usual one"
    if lacking is None and config.tie_word_embeddings is False and family.head == "embedding":
        lacking = "an output head of its own"
    if lacking is not None:
        raise ConfigError(f"llama.cpp's {family.architecture} does not know {lacking}", hint=elsewhere)
    return family


def context_of(config: ModelConfig, family: GgufFamily) -> int:
    """Tokens within which llama.cpp computes what the model does: the window, where it knows none of this family."""
    slides = SLIDING in config.layer_types and not family.every
    return min(config.max_position_embeddings, config.sliding_window or 1) if slides else config.max_position_embeddings


def slides_otherwise(config: ModelConfig, family: GgufFamily) -> bool:
    """Whether other layers slide than llama.cpp takes for granted."""
    usual = usual_layer_types(config.num_hidden_layers, family)
    return [config.layer_type(layer) for layer in range(config.num_hidden_layers)] != usual


def usual_layer_types(layers: int, family: GgufFamily) -> list[str]:
    """Which layers slide where a file does not say it."""
    return [SLIDING if (layer + 1) % family.every else FULL for layer in range(layers)]


@dataclass(frozen=True)
class Placed:
    """One of llama.cpp's tensors, by name, and the parameters of ours that lie in it."""

    theirs: str
    ours: tuple[str, ...]
    stacked: bool = False
    """Along a new first dimension (experts); else one after the other along the first."""


def gguf_layout(decoder: Decoder, family: GgufFamily) -> Iterator[Placed]:
    """Where every parameter lies, each tensor of llama.cpp's once; a tied head that must be written names the
    embedding again. ConfigError for a parameter that the architecture has no place for."""
    for name, _ in decoder.model.named_parameters(prefix="model"):
        if not name.startswith("model.layers."):
            module, _, kind = name.rpartition(".")
            yield Placed(f"{_WHOLE[module]}.{kind}", (name,))
    if decoder.lm_head is not None or family.head == "own":
        yield Placed("output.weight", (EMBEDDING if decoder.lm_head is None else "lm_head.weight",))
    for number, layer in enumerate(decoder.model.layers):
        yield from _layer(number, layer, decoder.config, family)


def gguf_tensors(decoder: Decoder, family: GgufFamily) -> Iterator[tuple[str, Tensor]]:
    """Every tensor under llama.cpp's name and in its layout. ConfigError for one that the architecture has not."""
    config, parameters = decoder.config, dict(decoder.named_parameters())
    for placed in gguf_layout(decoder, family):
        parts = [_turned(parameters[name].detach(), _module(name), config, family) for name in placed.ours]
        yield placed.theirs, torch.stack(parts) if placed.stacked else parts[0] if len(parts) == 1 else torch.cat(parts)
    scaling = config.rope_scaling
    if scaling is not None and scaling.rope_type == "llama3":
        yield ROPE_FACTORS, wave_factors(config.rotary_dim, config.rope_theta, scaling, config.max_position_embeddings)


def wave_factors(rotary_dim: int, theta: float, scaling: RopeScaling, context: int) -> Tensor:
    """How many times longer Llama 3's scaling makes each wave, float32 (D / 2,): llama.cpp reads them as a tensor."""
    plain, _ = inverse_frequencies(rotary_dim, theta, None, 1)
    scaled, _ = inverse_frequencies(rotary_dim, theta, scaling, context)
    return plain / scaled


def parts_of(tensor: Tensor, placed: Placed, decoder: Decoder, family: GgufFamily) -> Iterator[tuple[str, Tensor]]:
    """The inverse: our parameters out of one tensor of llama.cpp's, whose shape is `shape_of`."""
    shapes = [decoder.get_parameter(name).shape for name in placed.ours]
    parts = tensor.unbind(0) if placed.stacked else tensor.split([shape[0] for shape in shapes])
    for name, part in zip(placed.ours, parts, strict=True):
        yield name, _turned_back(part, _module(name), decoder.config, family)


def shape_of(placed: Placed, decoder: Decoder) -> tuple[int, ...]:
    """The shape that a tensor of llama.cpp's should have, outermost dimension first."""
    shapes = [tuple(decoder.get_parameter(name).shape) for name in placed.ours]
    return (len(shapes), *shapes[0]) if placed.stacked else (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _module(name: str) -> str:
    """The last module of a parameter's path."""
    return name.rpartition(".")[0].rpartition(".")[2]


def _layer(number: int, layer: nn.Module, config: ModelConfig, family: GgufFamily) -> Iterator[Placed]:
    """One layer: experts stacked, and what is joined in the order that the family says."""
    joined: dict[str, list[str]] = {}
    for name, _ in layer.named_parameters(prefix=f"model.layers.{number}"):
        module, kind = _module(name), name.rpartition(".")[2]
        if kind == "bias" and module not in family.biases and not (module.endswith("norm") and family.layer_norm):
            raise ConfigError(f"llama.cpp's {family.architecture} has no bias in {module}", hint="export a folder")
        group = next((group for group, parts in family.joined.items() if module in parts), None)
        if ".experts." in name:
            joined.setdefault(f"{_PARTS[module]}_exps.{kind}", []).append(name)
        elif group is not None:
            joined.setdefault(f"{group}.{kind}", []).append(name)
        else:
            yield Placed(f"blk.{number}.{_part(module, config)}.{kind}", (name,))
    for name, parts in joined.items():
        order = family.joined.get(name.rpartition(".")[0])
        if order is None:
            yield Placed(f"blk.{number}.{name}", tuple(parts), stacked=True)
        else:
            placed = {_module(part): part for part in parts}
            yield Placed(f"blk.{number}.{name}", tuple(placed[module] for module in order))


def _part(module: str, config: ModelConfig) -> str:
    if module == "post_attention_layernorm":  # its name tells what it follows, or where it stands
        return "ffn_norm" if config.family.placement == "pre" else "post_attention_norm"
    return _PARTS[module]


def _turned(tensor: Tensor, module: str, config: ModelConfig, family: GgufFamily) -> Tensor:
    """Norms with their offset, queries and keys in the order in which they are rotated."""
    if family.norm_offset and module.endswith("norm"):
        return tensor.float() + family.norm_offset
    if family.rotates_pairs and module in _ROTATED:
        return tensor.unflatten(0, (_heads(module, config), 2, config.head_dim // 2)).transpose(1, 2).flatten(0, 2)
    return tensor


def _turned_back(tensor: Tensor, module: str, config: ModelConfig, family: GgufFamily) -> Tensor:
    if family.norm_offset and module.endswith("norm"):
        return tensor - family.norm_offset
    if family.rotates_pairs and module in _ROTATED:
        return tensor.unflatten(0, (_heads(module, config), config.head_dim // 2, 2)).transpose(1, 2).flatten(0, 2)
    return tensor


def _heads(module: str, config: ModelConfig) -> int:
    return config.num_attention_heads if module == "q_proj" else config.num_key_value_heads
