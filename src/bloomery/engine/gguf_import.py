"""GGUF in: a decoder and its tokenizer from a file of llama.cpp's, quantised or not.

The config comes from the keys that `gguf_file` writes, the parameters from where `gguf_families` places them, tensor by
tensor, so that there is never more than one beside the model. A key or a tensor that would change what is computed and
is not known is an error. This module does not know how a file's header is read (`gguf_reader`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bloomery.core.errors import ConfigError, DataError, nearest
from bloomery.engine.gguf_families import (
    EMBEDDING,
    GGUF_FAMILIES,
    ROPE_FACTORS,
    GgufFamily,
    gguf_family,
    gguf_layout,
    parts_of,
    rotated_but_each_fourth,
    scores_scalar,
    shape_of,
    usual_layer_types,
    wave_factors,
)
from bloomery.engine.gguf_reader import GgufContents, StoredTensor, bits_a_weight, read_gguf
from bloomery.engine.gguf_tokenizer import end_ids, special_ids, tokenizer_files
from bloomery.models import Decoder, ModelConfig
from bloomery.models.families import FAMILIES, FULL, SLIDING
from bloomery.models.outline import shapes_only
from bloomery.models.rope import RopeScaling
from bloomery.tokenizer import Tokenizer

_FIELDS = {field.name for field in dataclasses.fields(ModelConfig)}
_FOLDER = "import the model's folder of safetensors instead"
_HEAD, _EMBEDDED = "output.weight", "token_embd.weight"
# Keys of an architecture that are read, and below them those that change nothing of what is computed here.
_READ = {
    *("context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count"),
    *("attention.head_count_kv", "attention.key_length", "attention.value_length", "vocab_size"),
    *("attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon", "attention.sliding_window"),
    *("attention.sliding_window_pattern", "rope.dimension_count", "rope.freq_base", "rope.freq_base_swa"),
    *("rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length", "rope.scale_linear"),
    *("rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow", "attn_logit_softcapping"),
    *("final_logit_softcapping", "use_parallel_residual", "expert_count", "expert_used_count"),
    "expert_feed_forward_length",
}
_NO_EFFECT = {"rope.scaling.finetuned", "tensor_data_layout", "pooling_type", "rope.dimension_count_swa"}
_USUAL = {"attention.causal": True, "rope.scaling.attn_factor": 1.0, "rope.scaling.yarn_attn_factor": 1.0}
"""Keys that are supported at one value only."""
_ORIGINALS = (8192, *(1 << power for power in range(5, 21)))
"""Original contexts that Llama 3's scaling is tried with, the published one first."""
_LOW, _HIGH = 1.0, 4.0
_MAX_EXPERTS = 1 << 17
"""Of all layers: each is a module of its own here."""


@dataclass(frozen=True, kw_only=True)
class ReadModel:
    """What a file holds; `notes` are what the reader should know."""

    decoder: Decoder
    tokenizer: Tokenizer
    notes: tuple[str, ...]


def read_model(path: str | Path, *, dtype: torch.dtype | None = None) -> ReadModel:
    """A decoder, frozen and in evaluation mode, and its tokenizer from a GGUF file.

    `dtype` None keeps that of most of the matrices' numbers; float16 where any are quantised, which come out as the
    numbers that they stand for. Raises DataError for a file that is damaged or contradicts itself, ConfigError for a
    family, key, tensor or tokenizer that is not supported, MissingExtraError without the `gguf` library.
    """
    contents = read_gguf(path)
    config, notes = gguf_config(contents)
    tokenizer = Tokenizer(
        tokenizer_files(contents, gemma=config.model_type.startswith("gemma")), source=str(contents.path)
    )
    kind = dtype or _usual_dtype(contents)
    decoder = _filled(contents, config, kind)
    return ReadModel(decoder=decoder, tokenizer=tokenizer, notes=(*notes, *_quantised(contents, kind)))


def gguf_config(contents: GgufContents) -> tuple[ModelConfig, list[str]]:
    """The config that a file's keys describe, and what to say of it. Errors as `read_model`."""
    architecture, what = contents.text("general.architecture"), contents.text("general.type", "model")
    if what != "model":
        raise ConfigError(f"{contents.path} holds no model: its type is {what!r:.40}", hint="give the model's own file")
    model_type = _model_type(contents, architecture)
    family = GGUF_FAMILIES[model_type]
    read = _Keys(contents, architecture)
    read.check()
    ids, notes = special_ids(contents)
    values = _sizes(read, model_type, family) | _attention(read, model_type, family, notes)
    values |= _rope(read, model_type, values)
    values |= _parts(read, model_type, values)
    values |= {"bos_token_id": ids.get("bos_token"), "eos_token_id": end_ids(contents)}
    values |= {"pad_token_id": ids.get("pad_token")}
    defaults = {key: value for key, value in FAMILIES[model_type].defaults.items() if key in _FIELDS}
    try:
        config = ModelConfig(**{**defaults, **values, "model_type": model_type})
        gguf_family(config)  # what llama.cpp does not compute no file of its own asks for
    except ConfigError as error:
        raise DataError(f"{contents.path} describes no model: {error.message}", hint=error.hint or _FOLDER) from None
    return config, notes


class _Keys:
    """The keys of one architecture, without its name before them."""

    def __init__(self, contents: GgufContents, architecture: str) -> None:
        self.contents, self._prefix = contents, f"{architecture}."

    def has(self, key: str) -> bool:
        return self._prefix + key in self.contents.values

    def raw(self, key: str) -> Any:
        return self.contents.values.get(self._prefix + key)

    def whole(self, key: str, default: int | None = None) -> int:
        return self.contents.whole(self._prefix + key, default)

    def number(self, key: str, default: float | None = None) -> float:
        return float(self.contents.number(self._prefix + key, default))

    def check(self) -> None:
        """ConfigError for a key that is not known."""
        for key, value in self.contents.values.items():
            name = key.removeprefix(self._prefix)
            if name == key or name in _READ | _NO_EFFECT:
                continue
            if name not in _USUAL or isinstance(value, np.ndarray | list) or value != _USUAL[name]:
                raise ConfigError(
                    f"{self.contents.path} says {key} = {value!r:.40}, which is not supported",
                    hint=_FOLDER,
                )


def _model_type(contents: GgufContents, architecture: str) -> str:
    """The first of our families that llama.cpp computes by this architecture, with experts or without."""
    sparse = contents.whole(f"{architecture}.expert_count", 0) > 0
    for model_type, family in GGUF_FAMILIES.items():
        if family.architecture == architecture and sparse == ("num_experts" in FAMILIES[model_type].fields):
            return model_type
    known = sorted({family.architecture for family in GGUF_FAMILIES.values()})
    raise ConfigError(
        f"{contents.path}: architecture {architecture!r:.40}{' with experts' if sparse else ''} is not read from GGUF",
        hint=f"{nearest(architecture, known)}; or import the model's folder",
    )


def _sizes(read: _Keys, model_type: str, family: GgufFamily) -> dict[str, Any]:
    tensors, defaults = read.contents.tensors, FAMILIES[model_type].defaults
    if _EMBEDDED not in tensors:
        raise read.contents.damaged(f"it has no tensor {_EMBEDDED}")
    hidden, heads = read.whole("embedding_length"), read.whole("attention.head_count")
    if not 0 < heads <= hidden:
        raise read.contents.damaged(f"{heads} heads for a width of {hidden}")
    key = read.whole("attention.key_length", hidden // heads)
    if read.whole("attention.value_length", key) != key:
        raise ConfigError(f"{read.contents.path}: values of another width than keys are not supported", hint=_FOLDER)
    epsilon = "attention.layer_norm_epsilon" if family.layer_norm else "attention.layer_norm_rms_epsilon"
    sizes = {
        "vocab_size": tensors[_EMBEDDED].shape[0],
        "hidden_size": hidden,
        "intermediate_size": read.whole("feed_forward_length"),
        "num_hidden_layers": read.whole("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": read.whole("attention.head_count_kv", heads),
        "head_dim": key,
        "max_position_embeddings": read.whole("context_length"),
        "rms_norm_eps": read.number(epsilon),
        "hidden_act": defaults.get("hidden_act", "silu"),
    }
    if read.has("expert_count"):
        sizes |= _experts(read, model_type, sizes["num_hidden_layers"])
    return sizes


def _experts(read: _Keys, model_type: str, layers: int) -> dict[str, Any]:
    if not (count := read.whole("expert_count")):
        return {}
    if count * layers > _MAX_EXPERTS:
        raise read.contents.damaged(f"it says that it has {count:,} experts in each of {layers:,} layers")
    stacked = read.contents.tensors.get("blk.0.ffn_gate_exps.weight")
    if (
        stacked is None
        or stacked.shape[0] != count
        or f"blk.{layers - 1}.ffn_gate_exps.weight" not in (read.contents.tensors)
    ):
        raise read.contents.damaged(f"it says that it has {count:,} experts, but not all are there")
    sizes = {"num_experts": count, "num_experts_per_tok": read.whole("expert_used_count"), "norm_topk_prob": True}
    if "moe_intermediate_size" in FAMILIES[model_type].fields:
        sizes["moe_intermediate_size"] = read.whole("expert_feed_forward_length")
    return sizes


def _attention(read: _Keys, model_type: str, family: GgufFamily, notes: list[str]) -> dict[str, Any]:
    """Which layers slide over what window, and how scores are scaled and capped."""
    layers, published = read.whole("block_count"), FAMILIES[model_type]
    context, window = read.whole("context_length"), read.whole("attention.sliding_window", 0)
    if not 1 <= layers <= 1024:
        raise read.contents.damaged(f"it says that it has {layers:,} layers")
    values: dict[str, Any] = {"sliding_window": None}
    if family.every:
        if not window:
            raise ConfigError(
                f"{read.contents.path} does not say how far its layers see (attention.sliding_window)", hint=_FOLDER
            )
        values |= {"sliding_window": window, "layer_types": tuple(_layer_types(read, layers, family))}
    elif window and window < context:
        if published.layer_types and not published.window_keys and "sliding_window" in published.fields:
            values |= {"sliding_window": window, "layer_types": (SLIDING,) * layers}
        else:
            values["max_position_embeddings"] = window
            notes.append(f"which layers see {window:,} tokens only is not said: the context is cut to that")
    if "query_pre_attn_scalar" in published.fields:
        hidden, heads = read.whole("embedding_length"), read.whole("attention.head_count")
        key = read.whole("attention.key_length", hidden // max(heads, 1))
        values["query_pre_attn_scalar"] = scores_scalar(layers, hidden, max(heads, 1), key, family)
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if read.has(name):
            values[name] = read.number(name)
    return values


def _layer_types(read: _Keys, layers: int, family: GgufFamily) -> list[str]:
    pattern = read.raw("attention.sliding_window_pattern")
    if pattern is None:
        return usual_layer_types(layers, family)
    if isinstance(pattern, int) and pattern > 0:
        return usual_layer_types(layers, dataclasses.replace(family, every=pattern))
    kinds = [SLIDING if kind else FULL for kind in pattern] if isinstance(pattern, np.ndarray) else []
    if len(kinds) != layers:
        raise read.contents.damaged("attention.sliding_window_pattern should name every layer")
    return kinds


def _rope(read: _Keys, model_type: str, values: dict[str, Any]) -> dict[str, Any]:
    published = FAMILIES[model_type]
    if published.positions != "rotary":
        return {}
    head_dim, theta = values["head_dim"], read.number("rope.freq_base", 10000.0)
    rotated = read.whole("rope.dimension_count", head_dim)
    found: dict[str, Any] = {"rope_theta": theta, "rope_scaling": _scaling(read)}
    if "partial_rotary_factor" in published.fields and 0 < rotated <= head_dim:
        found["partial_rotary_factor"] = rotated / head_dim
    elif rotated != head_dim:
        raise ConfigError(
            f"{read.contents.path}: heads of {head_dim} of which {rotated} are rotated are not supported", hint=_FOLDER
        )
    if "rope_local_base_freq" in published.fields:
        found["rope_local_base_freq"] = read.number("rope.freq_base_swa", 10000.0)
    if (factors := read.contents.tensors.get(ROPE_FACTORS)) is not None:
        found["rope_scaling"] = _llama3(read.contents, factors, rotated, theta, values["max_position_embeddings"])
    if "no_rope_layers" in published.fields:
        found["no_rope_layers"] = rotated_but_each_fourth(values["num_hidden_layers"])
    return found


def _scaling(read: _Keys) -> RopeScaling | None:
    kind = read.contents.text(f"{read.contents.text('general.architecture')}.rope.scaling.type", "none")
    factor = read.number("rope.scaling.factor", read.number("rope.scale_linear", 1.0))
    if not read.has("rope.scaling.type") and factor not in (0.0, 1.0):
        kind = "linear"
    if kind == "none" or (kind == "linear" and factor in (0.0, 1.0)):
        return None
    if kind not in ("linear", "yarn"):
        raise ConfigError(f"{read.contents.path}: rope scaling {kind!r:.40} is not read from GGUF", hint=_FOLDER)
    if kind == "linear":
        return RopeScaling(rope_type="linear", factor=factor)
    fast, slow = (
        read.number(key) if read.has(key) else None
        for key in ("rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow")
    )
    original = read.whole("rope.scaling.original_context_length", read.whole("context_length"))
    return RopeScaling(
        rope_type="yarn",
        factor=factor,
        original_max_position_embeddings=original,
        beta_fast=fast,
        beta_slow=slow,
    )


def _llama3(
    contents: GgufContents, stored: StoredTensor, rotated: int, theta: float, context: int
) -> RopeScaling | None:
    """Llama 3's scaling, of which llama.cpp keeps how many times longer each wave is. Only the ratios of its three
    bounds count, so low_freq_factor is taken for 1, and high_freq_factor for 4 as all published ones have it."""
    if stored.shape != (rotated // 2,) or not stored.plain:
        raise contents.damaged(f"{ROPE_FACTORS} should be {rotated // 2} floats")
    factors = stored.read(torch.float32)
    if bool((factors == 1).all()):
        return None
    factor = float(f"{float(factors.max()):.6g}")
    found: list[tuple[float, RopeScaling]] = []
    for original in _ORIGINALS if math.isfinite(factor) and factor > 1 and theta > 0 else ():
        scaling = RopeScaling(
            rope_type="llama3",
            factor=factor,
            low_freq_factor=_LOW,
            high_freq_factor=_HIGH,
            original_max_position_embeddings=original,
        )
        found.append((float((wave_factors(rotated, theta, scaling, context) / factors - 1).abs().max()), scaling))
    error, best = min(found, key=lambda one: one[0], default=(1.0, None))
    if error < 1e-4:
        return best
    raise ConfigError(f"{contents.path}: {ROPE_FACTORS} are not those of Llama 3's scaling", hint=_FOLDER)


def _parts(read: _Keys, model_type: str, values: dict[str, Any]) -> dict[str, Any]:
    """Which optional parts there are, as the tensors show it."""
    published, tensors = FAMILIES[model_type], read.contents.tensors
    head, embedding = tensors.get(_HEAD), tensors[_EMBEDDED]
    tied = head is None or (head.kind == embedding.kind and np.array_equal(head.data, embedding.data))
    found: dict[str, Any] = {"tie_word_embeddings": tied}
    if "attention_bias" not in published.fixed:
        found["attention_bias"] = "blk.0.attn_output.bias" in tensors
    if "mlp_bias" in published.fields:
        found["mlp_bias"] = "blk.0.ffn_up.bias" in tensors
    if "use_parallel_residual" in published.fields:
        architecture = read.contents.text("general.architecture")
        found["use_parallel_residual"] = read.contents.flag(f"{architecture}.use_parallel_residual", True)
    if f"blk.{values['num_hidden_layers'] - 1}.attn_output.weight" not in tensors:
        raise read.contents.damaged(
            f"it says that it has {values['num_hidden_layers']:,} layers, but not all are there"
        )
    return found


def _usual_dtype(contents: GgufContents) -> torch.dtype:
    """The dtype of most numbers in matrices; float16 if some are quantised."""
    matrices = [tensor for tensor in contents.tensors.values() if len(tensor.shape) > 1]
    if not all(tensor.plain for tensor in matrices):
        return torch.float16
    kinds = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    return max(kinds.items(), key=lambda one: sum(tensor.size for tensor in matrices if tensor.kind == one[0]))[1]


def _quantised(contents: GgufContents, dtype: torch.dtype) -> Iterator[str]:
    rounded = [tensor for tensor in contents.tensors.values() if not tensor.plain and len(tensor.shape) > 1]
    if rounded:
        kinds = ", ".join(sorted({tensor.kind for tensor in rounded}))
        kept = str(dtype).removeprefix("torch.")
        yield (
            f"{len(rounded)} matrices were quantised ({kinds}; {bits_a_weight(rounded):.1f} bits a weight):"
            f" they are kept as the numbers that those stand for, in {kept}"
        )


def _filled(contents: GgufContents, config: ModelConfig, dtype: torch.dtype) -> Decoder:
    """A decoder with every parameter from the file; DataError for a tensor that is missing, left over or mis-shaped."""
    family = GGUF_FAMILIES[config.model_type]
    with shapes_only():
        decoder = Decoder(config)
    left = contents.tensors.keys() - {ROPE_FACTORS}
    layout = list(gguf_layout(decoder, family))
    for placed in layout:
        stored = contents.tensors.get(placed.theirs)
        if stored is None:
            raise contents.damaged(f"tensor {placed.theirs} is missing")
        if stored.shape != (shape := shape_of(placed, decoder)):
            raise contents.damaged(
                f"tensor {placed.theirs} has shape {list(stored.shape)}, its keys ask for {list(shape)}"
            )
        left -= {placed.theirs}
    if config.tie_word_embeddings:
        left -= {_HEAD}
    if left:
        raise ConfigError(
            f"{contents.path} has {len(left)} tensors that {family.architecture} does not have here, such as"
            f" {min(left)!r:.80}",
            hint=_FOLDER,
        )
    parameters: dict[str, torch.Tensor] = {}
    for placed in layout:
        if placed.theirs == _HEAD and placed.ours == (EMBEDDING,):
            continue  # a tied head that was written
        whole = contents.tensors[placed.theirs]
        offset = family.norm_offset and len(whole.shape) == 1
        for name, part in parts_of(whole.read(torch.float32 if offset else dtype), placed, decoder, family):
            # What was joined becomes tensors of their own, as files need them.
            parameters[name] = part.to(dtype).contiguous() if len(placed.ours) == 1 else part.to(dtype, copy=True)
    decoder.load_state_dict(parameters, assign=True, strict=False)  # buffers are not in files
    return decoder.requires_grad_(False).eval()
