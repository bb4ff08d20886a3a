"""ModelConfig: a decoder's sizes and options under Hugging Face's names, to and from config.json.

A key of config.json is read, known to make no difference, or an error that names it: none is passed over. One that
is not known and null is not set. This module does not know tensors or files.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import ConfigError
from bloomery.models.families import Family, family_of
from bloomery.models.rope import RopeScaling

# Keys that do not change what the forward pass computes, whatever their value.
_NO_EFFECT = frozenset(
    {
        *("transformers_version", "architectures", "use_cache", "torch_dtype", "dtype", "pad_token_id"),
        *("return_dict", "output_hidden_states", "output_attentions", "chunk_size_feed_forward", "id2label"),
        *("label2id", "problem_type", "_attn_implementation", "attn_implementation", "_attn_implementation_autoset"),
        *("_name_or_path", "is_llama_config", "transformers.js_config"),
    }
)
# Keys that are supported at these values only.
_ONLY = {
    "hidden_act": ("silu", "swish"),
    "attention_dropout": (0, 0.0, None),
    "use_sliding_window": (False, None),
    "pretraining_tp": (1, None),
    "is_encoder_decoder": (False, None),
    "rope_interleaved": (False, None),
    "quantization_config": (None,),
}
# Keys of ours whose null is as good as their absence.
_MAY_BE_NULL = {"rope_theta", "rope_scaling", "num_key_value_heads", "head_dim"}
_MAX = {
    "vocab_size": 1 << 22,
    "hidden_size": 1 << 17,
    "intermediate_size": 1 << 20,
    "num_hidden_layers": 1024,
    "num_attention_heads": 4096,
    "num_key_value_heads": 4096,
    "head_dim": 4096,
    "max_position_embeddings": 1 << 26,
}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes and options of one decoder. Raises ConfigError for sizes that make no model."""

    model_type: str = "qwen3"
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    initializer_range: float = 0.02
    bos_token_id: int | None = None
    eos_token_id: tuple[int, ...] = ()
    """Every id that ends a generation."""

    def __post_init__(self) -> None:
        family = self.family
        for name, limit in _MAX.items():
            value = getattr(self, name)
            if not 1 <= value <= limit:
                raise ConfigError(f'"{name}" should be from 1 to {limit:,}, not {value!r}')
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of"
                f" num_key_value_heads {self.num_key_value_heads}"
            )
        if self.head_dim % 2:
            raise ConfigError(f'"head_dim" should be even for rotary positions, not {self.head_dim}')
        for name in ("rms_norm_eps", "rope_theta", "initializer_range"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ConfigError(f'"{name}" should be above 0, not {getattr(self, name)!r}')
        if family.head_dim_follows_hidden_size and self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"{family.model_type}: hidden_size {self.hidden_size} is not a multiple of"
                f" num_attention_heads {self.num_attention_heads}"
            )
        if self.rope_scaling is not None and self.rope_scaling.rope_type == "yarn" and self.rope_theta <= 1:
            raise ConfigError(f'"rope_theta" should be above 1 for yarn, not {self.rope_theta!r}')
        if self.mlp_bias and not family.mlp_bias_key:
            raise ConfigError(f"family {family.model_type} has no mlp_bias")

    @property
    def family(self) -> Family:
        return family_of(self.model_type)

    @property
    def qk_norm(self) -> bool:
        """Whether queries and keys are normalised per head."""
        return self.family.qk_norm

    @classmethod
    def from_hf(cls, values: Mapping[str, Any]) -> ModelConfig:
        """From the content of a config.json. Raises ConfigError naming every key that is not supported."""
        family = family_of(values.get("model_type"))
        own = {f.name for f in dataclasses.fields(cls)}
        # A null id means that there is none, which is not the family's default; a null size is an error.
        given = {k: v for k, v in values.items() if k not in _NO_EFFECT and (v is not None or k in own - _MAY_BE_NULL)}
        merged = {**family.defaults, **given}
        if values.get("num_key_value_heads", 0) is None:
            merged["num_key_value_heads"] = merged["num_attention_heads"]
        _check_restricted(merged)
        rope = _rope(given, family.defaults["rope_theta"])
        eos = merged.pop("eos_token_id", None)
        arguments = {k: merged.pop(k) for k in list(merged) if k in own and k not in ("rope_scaling", "rope_theta")}
        window = ("sliding_window", "max_window_layers") if family.sliding_window_keys else ()
        for key in ("rope_scaling", "rope_theta", "rope_parameters", "layer_types", *window, *_ONLY):
            merged.pop(key, None)
        if merged:
            raise ConfigError(
                f"config.json has keys that are not supported for {family.model_type}: {', '.join(sorted(merged))}"
            )
        hidden, heads = arguments["hidden_size"], arguments["num_attention_heads"]
        arguments.setdefault("num_key_value_heads", heads)
        if family.head_dim_follows_hidden_size and isinstance(hidden, int) and isinstance(heads, int) and heads > 0:
            arguments.setdefault("head_dim", hidden // heads)
        arguments["eos_token_id"] = tuple(eos) if isinstance(eos, list) else () if eos is None else (eos,)
        return from_dict(cls, {**arguments, **rope}, where="config.json")

    def to_hf(self) -> dict[str, Any]:
        """The content of a config.json that transformers 4 and 5, vLLM and llama.cpp's converter read.

        Rotary settings stand there twice: in the older keys rope_theta and rope_scaling, and in rope_parameters.
        """
        values = to_dict(self)
        scaling = {k: v for k, v in (values.pop("rope_scaling") or {}).items() if v is not None}
        if not self.family.mlp_bias_key:
            values.pop("mlp_bias")
        eos = values.pop("eos_token_id")
        return {
            "architectures": [self.family.architecture],
            **values,
            "eos_token_id": eos[0] if len(eos) == 1 else eos or None,
            "hidden_act": "silu",
            "attention_dropout": 0.0,
            "use_cache": True,
            "rope_scaling": scaling or None,
            "rope_parameters": {"rope_type": "default", **scaling, "rope_theta": self.rope_theta},
        }


def _check_restricted(values: Mapping[str, Any]) -> None:
    for key, allowed in _ONLY.items():
        if key in values and values[key] not in allowed:
            raise ConfigError(f'"{key}" = {values[key]!r:.60} is not supported', hint=f"supported: {allowed[0]!r}")
    layers = values.get("layer_types", [])
    if not isinstance(layers, list) or any(kind != "full_attention" for kind in layers):
        raise ConfigError('"layer_types" other than full_attention are not supported')


def _rope(given: Mapping[str, Any], default_theta: float) -> dict[str, Any]:
    """rope_theta and rope_scaling from the older keys or transformers 5's rope_parameters; ConfigError if they differ.

    Readers disagree about which of the two wins, so a file whose two say different things has no one meaning.
    """
    older, newer = (_rope_table(given, key) for key in ("rope_scaling", "rope_parameters"))
    if older and newer and older[1] != newer[1]:
        raise ConfigError("rope_scaling and rope_parameters contradict each other", hint="keep one of them")
    places = [given.get("rope_theta"), *(table[0] for table in (older, newer) if table)]
    thetas = [theta for theta in places if theta is not None]
    if any(theta != thetas[0] for theta in thetas):
        raise ConfigError(f"rope_theta is given as {' and as '.join(f'{theta!r:.60}' for theta in thetas)}")
    theta = thetas[0] if thetas else default_theta
    return {"rope_theta": theta, "rope_scaling": (older or newer or (None, None))[1]}


def _rope_table(given: Mapping[str, Any], key: str) -> tuple[Any, dict[str, Any] | None] | None:
    """(rope_theta or None, the scaling or None for none) of one of the two tables; None without the table."""
    table = given.get(key)
    if table is None:
        return None
    if not isinstance(table, Mapping):
        raise ConfigError(f'"{key}" should be a table')
    rest = {name: value for name, value in table.items() if value is not None}
    older_kind = rest.pop("type", None)
    kind = rest.pop("rope_type", None) or older_kind or "default"
    theta = rest.pop("rope_theta", None)
    if rest.pop("partial_rotary_factor", 1.0) != 1.0:
        raise ConfigError("partial_rotary_factor other than 1 is not supported")
    if kind != "default":
        return theta, {"rope_type": kind, **rest}
    if rest.keys() - {"original_max_position_embeddings", "factor"}:
        raise ConfigError(f"{key}: keys without a rope_type: {', '.join(sorted(rest))}")
    return theta, None
