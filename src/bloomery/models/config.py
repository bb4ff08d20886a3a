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
from bloomery.models.families import FULL, SLIDING, Family, family_of
from bloomery.models.feed_forward import activation
from bloomery.models.naming import Names
from bloomery.models.rope import RopeScaling
from bloomery.models.rope_keys import by_layer_type, read_rope, rotary_share

# Keys that do not change what the forward pass computes, whatever their value.
_NO_EFFECT = frozenset(
    {
        *("transformers_version", "architectures", "use_cache", "torch_dtype", "dtype"),
        *("return_dict", "output_hidden_states", "output_attentions", "chunk_size_feed_forward", "id2label"),
        *("label2id", "problem_type", "_attn_implementation", "attn_implementation", "_attn_implementation_autoset"),
        *(
            "_name_or_path",
            "is_llama_config",
            "transformers.js_config",
            "cache_implementation",
            "auto_map",
            "_num_labels",
        ),
        *("tokenizer_class", "gradient_checkpointing", "finetuning_task", "torchscript", "use_bfloat16", "output_past"),
        "pretraining_tp",  # in how many parts a sum was once taken
        "max_sequence_length",
    }
)
# Keys that are supported at these values only.
_ONLY = {
    "attention_dropout": (0, 0.0, None),
    "is_encoder_decoder": (False, None),
    "rope_interleaved": (False, None),
    "quantization_config": (None,),
}
# Keys of ours whose null is as good as their absence.
_MAY_BE_NULL = {
    *("rope_theta", "rope_scaling", "num_key_value_heads", "head_dim", "layer_types", "no_rope_layers"),
    *("mlp_only_layers", "partial_rotary_factor", "intermediate_size"),
}
# Keys whose null means that there is none, whatever the family's default.
_NULL_IS_NONE = {"sliding_window", "attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar"}
# Fields that only some families' config.json has.
_OF_SOME = {
    *("mlp_bias", "sliding_window", "rope_local_base_freq", "partial_rotary_factor", "no_rope_layers"),
    *("attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar", "use_parallel_residual"),
    *("num_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob"),
    *("decoder_sparse_step", "mlp_only_layers", "value_embedding_layers", "bigram_vocab_size"),
    *("gated_mlp", "resid_lambdas", "x0_lambdas", "smear", "embed_norm"),
}
_ORIGINAL = "original_max_position_embeddings"
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
    hidden_act: str = "silu"
    rms_norm_eps: float = 1e-6
    """What every norm adds to the variance, whatever the family calls it."""
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    rope_local_base_freq: float | None = None
    """rope_theta of sliding layers, which are never scaled; None: as the others."""
    partial_rotary_factor: float = 1.0
    """The share of each head that is rotated."""
    no_rope_layers: tuple[int, ...] = ()
    """For each layer 1 if it is rotated, 0 if not; none given: all are."""
    layer_types: tuple[str, ...] = ()
    """For each layer "full_attention" or "sliding_attention"; none given: all full."""
    sliding_window: int | None = None
    """How many positions a sliding layer sees, the query's own included."""
    attn_logit_softcapping: float | None = None
    final_logit_softcapping: float | None = None
    query_pre_attn_scalar: int | None = None
    """Scores are divided by its square root; None: head_dim."""
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    use_parallel_residual: bool = False
    num_experts: int = 0
    """Experts of each sparse feed-forward; 0: none is sparse."""
    num_experts_per_tok: int = 0
    moe_intermediate_size: int = 0
    """Width of one expert; 0: intermediate_size."""
    norm_topk_prob: bool = False
    decoder_sparse_step: int = 1
    """Every so many layers one is sparse."""
    mlp_only_layers: tuple[int, ...] = ()
    """Layers that are never sparse."""
    value_embedding_layers: tuple[int, ...] = ()
    """Layers that have a second token embedding, added to their values head by head."""
    bigram_vocab_size: int = 0
    """Rows of the hashed embedding of pairs of tokens that is added to the input; 0: none."""
    gated_mlp: bool = True
    """Whether a family with gated feed-forwards has them; if not they are plain, as squared ReLU wants (So et al.,
    arXiv 2109.08668; nanochat)."""
    resid_lambdas: bool = False
    """Before each layer the residual stream is multiplied by a number that is learnt (modded-nanogpt, nanochat)."""
    x0_lambdas: bool = False
    """Before each layer a learnt multiple of the embedded input is added again (modded-nanogpt, nanochat)."""
    smear: bool = False
    """A gated part of the token before is added to each embedded token (modded-nanogpt, nanochat)."""
    embed_norm: bool = False
    """Embeddings are divided by their root mean square, without parameters (nanochat)."""
    initializer_range: float = 0.02
    bos_token_id: int | None = None
    eos_token_id: tuple[int, ...] = ()
    """Every id that ends a generation."""
    pad_token_id: int | None = None
    """Kept for others: nothing here is padded with it."""

    def __post_init__(self) -> None:
        _check_sizes(self)
        _check_options(self)

    @property
    def family(self) -> Family:
        return family_of(self.model_type)

    @property
    def gated(self) -> bool:
        """Whether feed-forwards are gated."""
        return self.family.gated and self.gated_mlp

    @property
    def looks_back(self) -> bool:
        """Whether the input of a token depends on the id before it."""
        return self.smear or self.bigram_vocab_size > 0

    @property
    def own_parts(self) -> tuple[str, ...]:
        """In words, what it has that no published family has."""
        layers = ", ".join(str(layer) for layer in self.value_embedding_layers)
        has = {
            f"value embeddings (in layers {layers})": bool(layers),
            "bigram embeddings": self.bigram_vocab_size > 0,
            "a plain feed-forward": self.family.gated and not self.gated_mlp,
            "residual lambdas": self.resid_lambdas,
            "x0 lambdas": self.x0_lambdas,
            "smeared embeddings": self.smear,
            "normalised embeddings": self.embed_norm,
            "capped logits": self.final_logit_softcapping is not None,
        }
        return () if self.family.published else tuple(words for words, there in has.items() if there)

    @property
    def qk_norm(self) -> bool:
        """Whether queries and keys are normalised."""
        return self.family.qk_norm is not None

    @property
    def context_length(self) -> int:
        """Tokens that it can read at once: what dynamic scaling adds to the original context is not in
        max_position_embeddings."""
        scaling = self.rope_scaling
        if scaling is None or scaling.rope_type != "dynamic" or scaling.factor is None:
            return self.max_position_embeddings
        return min(int(self.max_position_embeddings * scaling.factor), _MAX["max_position_embeddings"])

    def reach(self, length: int) -> int:
        """What a text's length changes of its rotary frequencies: texts with the same number share them; 0: nothing."""
        return 0 if self.rope_scaling is None else self.rope_scaling.reach(length, self.max_position_embeddings)

    @property
    def rotary_dim(self) -> int:
        """Rotated dimensions of each head."""
        return int(self.head_dim * self.partial_rotary_factor)

    def layer_type(self, layer: int) -> str:
        return self.layer_types[layer] if self.layer_types else FULL

    def window(self, layer: int) -> int | None:
        """How many positions a layer sees; None: all before."""
        return self.sliding_window if self.layer_type(layer) == SLIDING else None

    def uses_rope(self, layer: int) -> bool:
        return self.family.positions == "rotary" and (not self.no_rope_layers or bool(self.no_rope_layers[layer]))

    def rope_of(self, layer: int) -> tuple[float, RopeScaling | None]:
        """rope_theta and the scaling of a layer."""
        if self.rope_local_base_freq is not None and self.layer_type(layer) == SLIDING:
            return self.rope_local_base_freq, None
        return self.rope_theta, self.rope_scaling

    def is_sparse(self, layer: int) -> bool:
        """Whether a layer's feed-forward is a mixture of experts."""
        chosen = (layer + 1) % self.decoder_sparse_step == 0 and layer not in self.mlp_only_layers
        return self.num_experts > 0 and chosen

    def check_published(self) -> None:
        """ConfigError if it has parts that nobody else runs."""
        if not self.family.published:
            *others, last = self.own_parts
            parts = f"{', '.join(others)} and {last}" if others else last
            raise ConfigError(
                f"transformers, vLLM and llama.cpp do not run a decoder with {parts}",
                hint="bloomery runs it from its own folder; pretrain without them for a model that others run",
            )

    def names(self) -> Names:
        """How the family's files name the tensors."""
        return Names(self.family.rules(self), base_prefix=self.family.base_prefix)

    @classmethod
    def from_hf(cls, values: Mapping[str, Any]) -> ModelConfig:
        """From the content of a config.json. Raises ConfigError naming every key that is not supported."""
        family = family_of(values.get("model_type"))
        given = _given(family, by_layer_type(values))
        _check_restricted(given, {**_ONLY, **family.only})
        original = given.pop(_ORIGINAL, family.original_context) if family.original_context else None
        rope = read_rope(given, family.defaults.get("rope_theta", 10000.0), original)
        merged = {**family.defaults, **given}
        if values.get("num_key_value_heads", 0) is None:
            merged["num_key_value_heads"] = merged["num_attention_heads"]
        share = rotary_share(given)
        allowed = _keys(family) - {"rope_scaling", "rope_theta", "layer_types"}
        special = {*_ONLY, *family.only, "rope_scaling", "rope_theta", "rope_parameters", "layer_types"}
        special |= {"use_sliding_window", "max_window_layers", "sliding_window"} if family.window_keys else set()
        special |= {"no_rope_layer_interval"} if "no_rope_layers" in family.fields else set()
        odd = sorted(given.keys() - allowed - special)
        if odd:
            raise ConfigError(f"config.json has keys that are not supported for {family.model_type}: {', '.join(odd)}")
        arguments = {k: v for k, v in merged.items() if k in allowed or (k in _FIELDS and k not in given)}
        if share is not None:
            arguments["partial_rotary_factor"] = share
        arguments |= _derived(family, arguments, merged)
        eos = arguments.pop("eos_token_id", None)
        arguments["eos_token_id"] = tuple(eos) if isinstance(eos, list) else () if eos is None else (eos,)
        arguments["model_type"] = family.model_type
        return from_dict(cls, {**arguments, **rope}, where="config.json")

    def to_hf(self) -> dict[str, Any]:
        """The content of a config.json that transformers 4 and 5, vLLM and llama.cpp's converter read.

        Rotary settings stand there twice: in the older keys rope_theta and rope_scaling, and in rope_parameters.
        """
        family = self.family
        values = {k: v for k, v in to_dict(self).items() if k in _keys(family) | {"rope_scaling", "rope_theta"}}
        eos = values.pop("eos_token_id")
        document: dict[str, Any] = {
            "architectures": [family.architecture],
            **values,
            "eos_token_id": eos[0] if len(eos) == 1 else eos or None,
            "attention_dropout": 0.0,
            "use_cache": True,
        }
        types = document.pop("layer_types")
        if family.lists_layer_types:
            document["layer_types"] = types or [FULL] * self.num_hidden_layers
        if family.window_keys and family.layer_types:
            document["use_sliding_window"] = bool(types)
            document["max_window_layers"] = types.index(SLIDING) if types else self.num_hidden_layers
        if family.original_context and self.rope_scaling is not None:
            document[_ORIGINAL] = self.rope_scaling.original_max_position_embeddings
        if "no_rope_layers" in values:
            document["no_rope_layers"] = values["no_rope_layers"] or [1] * self.num_hidden_layers
        document |= self._rope_keys()
        for key in family.fixed & {"rope_theta", "rope_scaling", "rope_parameters", "attention_dropout"}:
            document.pop(key, None)
        names = {ours: theirs for theirs, ours in family.renamed.items()}
        return {names.get(key, key): value for key, value in document.items()}

    def _rope_keys(self) -> dict[str, Any]:
        scaling = {k: v for k, v in (to_dict(self).pop("rope_scaling") or {}).items() if v is not None}
        table = {"rope_type": "default", **scaling, "rope_theta": self.rope_theta}
        if "partial_rotary_factor" in self.family.fields:
            table["partial_rotary_factor"] = self.partial_rotary_factor
        if self.rope_local_base_freq is not None:
            local = {"rope_type": "default", "rope_theta": self.rope_local_base_freq}
            table = {FULL: table, SLIDING: local}
        return {"rope_scaling": scaling or None, "rope_parameters": table}


def every_second_layer(num_layers: int) -> tuple[int, ...]:
    """Every second layer, the last among them: where nanochat has value embeddings."""
    return tuple(range((num_layers - 1) % 2, num_layers, 2))


_FIELDS = {f.name: f for f in dataclasses.fields(ModelConfig)}


def _keys(family: Family) -> set[str]:
    """The fields that a family's config.json has, under our names."""
    return _FIELDS.keys() - (_OF_SOME - family.fields) - family.fixed


def _given(family: Family, values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that say something, under our names."""
    keys = _keys(family)
    given: dict[str, Any] = {}
    for theirs, value in values.items():
        key = family.renamed.get(theirs) or family.aliases.get(theirs, theirs)
        if theirs in _NO_EFFECT or theirs in family.ignored:
            continue
        # A null id means that there is none, which is not the family's default; a null size is an error.
        if value is None and (key in _MAY_BE_NULL or key not in keys):
            continue
        if key in given and given[key] != value:
            raise ConfigError(f"{key} is given as {given[key]!r:.60} and, as {theirs}, {value!r:.60}")
        given[key] = value
    return given


def _derived(family: Family, arguments: Mapping[str, Any], merged: Mapping[str, Any]) -> dict[str, Any]:
    """What follows from other keys where config.json leaves it out."""
    result: dict[str, Any] = {}
    hidden, heads, layers = (arguments.get(k) for k in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
    if "num_key_value_heads" not in arguments:
        result["num_key_value_heads"] = heads
    follows = "head_dim" not in arguments and family.head_dim_follows_hidden_size
    if follows and isinstance(hidden, int) and isinstance(heads, int) and heads > 0:
        result["head_dim"] = hidden // heads
    if "intermediate_size" not in arguments and isinstance(hidden, int):
        result["intermediate_size"] = 4 * hidden
    if not isinstance(layers, int) or not 0 < layers <= _MAX["num_hidden_layers"]:
        return result  # the class says what is wrong with it
    types = _layer_types(family, merged, layers)
    sliding = SLIDING in types
    result["layer_types"] = types if sliding else ()
    # A window that is off is none for Qwen; Gemma's reference wants one even where no layer slides.
    result["sliding_window"] = None if family.window_keys and not sliding else merged.get("sliding_window")
    if not sliding and "rope_local_base_freq" in family.fields:
        result["rope_local_base_freq"] = merged.get("rope_local_base_freq")
    if "no_rope_layers" in family.fields:
        every = merged.get("no_rope_layer_interval", 4)
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ConfigError(f'"no_rope_layer_interval" should be a number above 0, not {every!r:.40}')
        rotated = merged.get("no_rope_layers", [int((layer + 1) % every != 0) for layer in range(layers)])
        if not isinstance(rotated, list) or any(value not in (0, 1) for value in rotated):
            raise ConfigError('"no_rope_layers" should be a list of 0 and 1')
        result["no_rope_layers"] = () if all(rotated) else tuple(rotated)
    return result


def _layer_types(family: Family, merged: Mapping[str, Any], layers: int) -> tuple[str, ...]:
    """The kind of each layer, as listed or by the family's rule; ConfigError for a kind that is not supported."""
    listed = merged.get("layer_types")
    if listed is None:
        listed = family.layer_types(merged, layers) if family.layer_types else [FULL] * layers
    known = (FULL, SLIDING) if family.layer_types else (FULL,)
    if not isinstance(listed, list) or any(kind not in known for kind in listed):
        raise ConfigError(f'"layer_types" other than {" and ".join(known)} are not supported')
    if SLIDING in listed and family.window_keys and not merged.get("use_sliding_window"):
        raise ConfigError('"layer_types" has sliding layers, but use_sliding_window is false')
    return tuple(listed)


def _check_sizes(config: ModelConfig) -> None:
    for name, limit in _MAX.items():
        value = getattr(config, name)
        if not 1 <= value <= limit:
            raise ConfigError(f'"{name}" should be from 1 to {limit:,}, not {value!r}')
    if config.num_attention_heads % config.num_key_value_heads:
        raise ConfigError(
            f"num_attention_heads {config.num_attention_heads} is not a multiple of"
            f" num_key_value_heads {config.num_key_value_heads}"
        )
    for name in ("rms_norm_eps", "rope_theta", "initializer_range"):
        if not (math.isfinite(getattr(config, name)) and getattr(config, name) > 0):
            raise ConfigError(f'"{name}" should be above 0, not {getattr(config, name)!r}')
    for name in (
        *("rope_local_base_freq", "sliding_window", "query_pre_attn_scalar"),
        *("attn_logit_softcapping", "final_logit_softcapping"),
    ):
        value = getattr(config, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ConfigError(f'"{name}" should be above 0, not {value!r}')
    if config.family.head_dim_follows_hidden_size and config.hidden_size % config.num_attention_heads:
        raise ConfigError(
            f"{config.model_type}: hidden_size {config.hidden_size} is not a multiple of"
            f" num_attention_heads {config.num_attention_heads}"
        )
    for name in ("layer_types", "no_rope_layers"):
        count = len(getattr(config, name))
        if count not in (0, config.num_hidden_layers):
            raise ConfigError(f'"{name}" names {count} layers of {config.num_hidden_layers}')


def _check_options(config: ModelConfig) -> None:
    family = config.family
    activation(config.hidden_act)
    for name in sorted(_OF_SOME - family.fields):
        if getattr(config, name) != family.defaults.get(name, _FIELDS[name].default):
            raise ConfigError(f"family {family.model_type} has no {name}")
    if family.positions == "rotary":
        share = config.partial_rotary_factor
        if not 0 < share <= 1:
            raise ConfigError(f'"partial_rotary_factor" should be above 0 and at most 1, not {share!r}')
        if config.rotary_dim % 2 or not config.rotary_dim:
            what = "head_dim" if share == 1 else "head_dim x partial_rotary_factor"
            raise ConfigError(f'"{what}" should be even for rotary positions, not {config.rotary_dim}')
    _check_rope_scaling(config)
    _check_own(config)
    if "intermediate_size" in family.fixed and config.intermediate_size != 4 * config.hidden_size:
        raise ConfigError(f'"intermediate_size" of {family.model_type} is 4 x hidden_size')
    if SLIDING in config.layer_types and config.sliding_window is None:
        raise ConfigError('"sliding_window" is missing: layer_types has sliding layers')
    if config.num_experts and not 1 <= config.num_experts_per_tok <= config.num_experts:
        raise ConfigError(f'"num_experts_per_tok" should be from 1 to {config.num_experts}')
    if config.num_experts < 0 or config.num_experts > _MAX["num_attention_heads"] or config.moe_intermediate_size < 0:
        raise ConfigError('"num_experts" and "moe_intermediate_size" should be at least 0, and at most 4,096 experts')
    if config.decoder_sparse_step < 1:
        raise ConfigError(f'"decoder_sparse_step" should be above 0, not {config.decoder_sparse_step}')


def _check_rope_scaling(config: ModelConfig) -> None:
    scaling = config.rope_scaling
    if scaling is None:
        return
    kind, known = scaling.rope_type, config.family.rope_types
    if known is not None and kind not in known:
        raise ConfigError(f"family {config.model_type} has no rope scaling {kind}", hint="known: " + ", ".join(known))
    if kind == "yarn" and config.rope_theta <= 1:
        raise ConfigError(f'"rope_theta" should be above 1 for yarn, not {config.rope_theta!r}')
    if kind == "dynamic" and config.rotary_dim <= 2:
        raise ConfigError("rope scaling dynamic needs more than 2 rotated dimensions of a head")
    if kind == "longrope":
        for name in ("short_factor", "long_factor"):
            count = len(getattr(scaling, name))
            if count != config.rotary_dim // 2:
                raise ConfigError(f'"{name}" has {count} numbers for {config.rotary_dim // 2} waves')


def _check_own(config: ModelConfig) -> None:
    layers = config.value_embedding_layers
    if sorted(set(layers)) != list(layers) or any(not 0 <= layer < config.num_hidden_layers for layer in layers):
        raise ConfigError(
            f'"value_embedding_layers" should be numbers from 0 to {config.num_hidden_layers - 1}, rising'
        )
    if not 0 <= config.bigram_vocab_size <= _MAX["vocab_size"]:
        raise ConfigError(f'"bigram_vocab_size" should be from 0 to {_MAX["vocab_size"]:,}')
    if not config.family.published and not config.own_parts:
        raise ConfigError(
            f"family {config.model_type} is for value and bigram embeddings and the like, and has none of them",
            hint="choose some, or the family qwen3",
        )


def _check_restricted(values: Mapping[str, Any], only: Mapping[str, tuple[Any, ...]]) -> None:
    for key, allowed in only.items():
        if key in values and values[key] not in allowed:
            raise ConfigError(f'"{key}" = {values[key]!r:.60} is not supported', hint=f"supported: {allowed[0]!r}")
