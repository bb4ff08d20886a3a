"""GGUF families: what tells one of llama.cpp's architectures from another, as short descriptions.

A description says what llama.cpp calls the architecture, which tensors it wants joined or turned, and what of a family
it cannot compute: that is refused, never written wrongly. Read from the loaders and graphs of ggml-org/llama.cpp. This
module knows neither files nor tokenizers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bloomery.core.errors import ConfigError, nearest
from bloomery.models import Decoder, ModelConfig
from bloomery.models.families import FULL, SLIDING
from bloomery.models.rope import inverse_frequencies

_SILU = frozenset({"silu", "swish"})
# llama.cpp has the tanh form only; for families trained with the exact one it differs in the fourth digit.
_GELU = frozenset({"gelu_pytorch_tanh", "gelu_new", "gelu", "gelu_fast"})
_TANH_GELU = frozenset({"gelu_pytorch_tanh", "gelu_new"})
_QKV = ("q_proj", "k_proj", "v_proj")
_JOINED_QKV = {"attn_qkv": _QKV}
_ROTATED = ("q_proj", "k_proj")


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
    lacks: Callable[[ModelConfig], str | None] = lambda config: None
    """What it cannot compute of a config, in a few words."""


def _square(config: ModelConfig) -> str | None:
    square = config.num_attention_heads * config.head_dim == config.hidden_size
    return None if square else "heads that are not hidden_size wide together"


def _experts(config: ModelConfig) -> str | None:
    if not all(config.is_sparse(layer) for layer in range(config.num_hidden_layers)):
        return "layers without experts among those with experts"
    return None if config.norm_topk_prob else "experts whose weights do not sum to one"


def _gemma_scale(config: ModelConfig, published_layers: int) -> str | None:
    # llama.cpp tells the largest Gemma, whose scale is another, by its number of layers.
    largest = config.num_hidden_layers == published_layers
    expected = config.hidden_size // config.num_attention_heads if largest else config.head_dim
    given = config.query_pre_attn_scalar or config.head_dim
    return None if given == expected else f"query_pre_attn_scalar {given} (it takes {expected})"


def _gemma2(config: ModelConfig) -> str | None:
    if config.attn_logit_softcapping is None or config.final_logit_softcapping is None:
        return "Gemma 2 without logit soft-capping"
    return _gemma_scale(config, 46)


def _gemma3(config: ModelConfig) -> str | None:
    if config.attn_logit_softcapping is not None:
        return "attn_logit_softcapping in Gemma 3"
    if SLIDING in config.layer_types and config.rope_local_base_freq is None:
        return "sliding layers without rope_local_base_freq"
    return _gemma_scale(config, 62)


def _smollm3(config: ModelConfig) -> str | None:
    fourth = tuple(int((layer + 1) % 4 != 0) for layer in range(config.num_hidden_layers))
    rotated = config.no_rope_layers or (1,) * config.num_hidden_layers
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
    usual = [SLIDING if (layer + 1) % family.every else FULL for layer in range(config.num_hidden_layers)]
    return [config.layer_type(layer) for layer in range(config.num_hidden_layers)] != usual


def gguf_tensors(decoder: Decoder, family: GgufFamily) -> Iterator[tuple[str, Tensor]]:
    """Every tensor under llama.cpp's name and in its layout. ConfigError for one that the architecture has not."""
    config = decoder.config
    for name, tensor in _named(decoder.model, "model"):
        if not name.startswith("model.layers."):
            module, _, kind = name.rpartition(".")
            yield f"{_WHOLE[module]}.{kind}", _turned(tensor, module, config, family)
    if decoder.lm_head is not None or family.head == "own":
        yield "output.weight", decoder.output_weight.detach()
    for number, layer in enumerate(decoder.model.layers):
        yield from _layer(f"blk.{number}", layer, config, family)
    scaling = config.rope_scaling
    if scaling is not None and scaling.rope_type == "llama3":
        plain, _ = inverse_frequencies(config.rotary_dim, config.rope_theta, None, 1)
        scaled, _ = inverse_frequencies(config.rotary_dim, config.rope_theta, scaling, config.max_position_embeddings)
        yield "rope_freqs.weight", plain / scaled


def _named(module: nn.Module, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in module.named_parameters(prefix=prefix):
        yield name, parameter.detach()


def _layer(prefix: str, layer: nn.Module, config: ModelConfig, family: GgufFamily) -> Iterator[tuple[str, Tensor]]:
    """One layer: experts stacked, and what is joined in the order that the family says."""
    waiting: dict[str, list[tuple[str, Tensor]]] = {}
    for name, tensor in _named(layer, ""):
        path, _, kind = name.rpartition(".")
        module = path.rpartition(".")[2]
        if kind == "bias" and module not in family.biases and not (module.endswith("norm") and family.layer_norm):
            raise ConfigError(f"llama.cpp's {family.architecture} has no bias in {module}", hint="export a folder")
        tensor = _turned(tensor, module, config, family)
        group = next((group for group, parts in family.joined.items() if module in parts), None)
        if ".experts." in path:
            waiting.setdefault(f"{_PARTS[module]}_exps.{kind}", []).append((module, tensor))
        elif group is not None:
            waiting.setdefault(f"{group}.{kind}", []).append((module, tensor))
        else:
            yield f"{prefix}.{_part(module, config)}.{kind}", tensor
    for name, parts in waiting.items():
        group = name.rpartition(".")[0]
        if group.endswith("_exps"):
            yield f"{prefix}.{name}", torch.stack([tensor for _, tensor in parts])
        else:
            order = family.joined[group].index
            yield f"{prefix}.{name}", torch.cat([tensor for _, tensor in sorted(parts, key=lambda one: order(one[0]))])


def _part(module: str, config: ModelConfig) -> str:
    if module == "post_attention_layernorm":  # its name tells what it follows, or where it stands
        return "ffn_norm" if config.family.placement == "pre" else "post_attention_norm"
    return _PARTS[module]


def _turned(tensor: Tensor, module: str, config: ModelConfig, family: GgufFamily) -> Tensor:
    """Norms with their offset, queries and keys in the order in which they are rotated."""
    if family.norm_offset and module.endswith("norm"):
        return tensor.float() + family.norm_offset
    if family.rotates_pairs and module in _ROTATED:
        heads = config.num_attention_heads if module == "q_proj" else config.num_key_value_heads
        return tensor.unflatten(0, (heads, 2, config.head_dim // 2)).transpose(1, 2).flatten(0, 2)
    return tensor
