"""EncoderConfig: a bidirectional encoder's sizes, options and head under Hugging Face's names.

A key of config.json is read, known to make no difference in evaluation, or an error that names it. This module does
not know tensors or files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import ConfigError, nearest
from bloomery.models.encoder_families import ENCODER_FAMILIES, EncoderFamily
from bloomery.models.feed_forward import activation
from bloomery.models.naming import Names
from bloomery.models.rope_keys import by_layer_type, read_rope

HEADS = ("none", "masked", "sequence", "token")
_CLASSES = {
    "none": "Model",
    "masked": "ForMaskedLM",
    "sequence": "ForSequenceClassification",
    "token": "ForTokenClassification",
}
_NO_EFFECT = frozenset(
    {
        *("transformers_version", "use_cache", "torch_dtype", "dtype", "return_dict", "output_hidden_states"),
        *("is_matryoshka", "matryoshka_dimensions"),  # to what vectors may be cut: see engine/loading
        *("output_attentions", "_name_or_path", "problem_type", "gradient_checkpointing", "_attn_implementation"),
        *("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "attention_dropout"),
        *("embedding_dropout", "mlp_dropout", "initializer_cutoff_factor", "deterministic_flash_attn"),
        *("sparse_prediction", "sparse_pred_ignore_index", "reference_compile", "repad_logits_with_grad"),
        *("chunk_size_feed_forward", "layer_norm_eps_", "transformers.js_config", "attn_implementation"),
        *("output_past", "tokenizer_class", "finetuning_task", "torchscript", "use_bfloat16", "auto_map"),
        # The first multilingual and Chinese BERT describe a pooler here that no reader has ever built.
        *("pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head"),
    }
)
_ONLY: dict[str, tuple[Any, ...]] = {
    "position_embedding_type": ("absolute", None),
    "is_decoder": (False, None),
    "add_cross_attention": (False, None),
    "directionality": ("bidi", None),
    "pooler_type": ("first_token_transform", None),
    "is_encoder_decoder": (False, None),
    "quantization_config": (None,),
}
_RENAMED = {"norm_eps": "layer_norm_eps", "hidden_activation": "hidden_act"}
_MODERN = {
    *("attention_bias", "mlp_bias", "norm_bias", "local_attention", "layer_types", "rope_theta"),
    *("rope_local_base_freq", "decoder_bias", "classifier_pooling", "classifier_bias", "classifier_activation"),
    *("cls_token_id", "sep_token_id"),
}
FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Sizes and options of one encoder. Raises ConfigError for sizes that make no model."""

    model_type: str = "modernbert"
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int
    """Rows of learned positions, or the context of rotary ones."""
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    type_vocab_size: int = 0
    """Kinds of segments; 0: none are told apart."""
    attention_bias: bool = False
    mlp_bias: bool = False
    norm_bias: bool = True
    rope_theta: float = 10000.0
    rope_local_base_freq: float = 10000.0
    layer_types: tuple[str, ...] = ()
    """For each layer "full_attention" or "sliding_attention"; none given: all full."""
    local_attention: int = 128
    """Width of a sliding layer's window: half of it on either side."""
    tie_word_embeddings: bool = True
    decoder_bias: bool = True
    head: str = "none"
    """"none", "masked" (fills blanks), "sequence" or "token" (classifies)."""
    num_labels: int = 2
    """Classes of a classifying head."""
    id2label: dict[str, Any] | None = None
    classifier_pooling: str = "cls"
    classifier_bias: bool = False
    classifier_activation: str = "gelu"
    initializer_range: float = 0.02
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    cls_token_id: int | None = None
    sep_token_id: int | None = None

    def __post_init__(self) -> None:
        family = self.family
        for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
            if not 1 <= getattr(self, name) <= 1 << 22:
                raise ConfigError(f'"{name}" should be from 1 to {1 << 22:,}, not {getattr(self, name)!r}')
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        if family.modern and (self.hidden_size // self.num_attention_heads) % 2:
            raise ConfigError("hidden_size / num_attention_heads should be even for rotary positions")
        if not 1 <= self.num_labels <= 1 << 20 or self.local_attention < 2 or self.type_vocab_size < 0:
            raise ConfigError('"num_labels", "local_attention" or "type_vocab_size" is out of range')
        if self.head not in HEADS:
            raise ConfigError(f"unknown head {self.head!r:.40}", hint=nearest(self.head, HEADS))
        if self.classifier_pooling not in ("cls", "mean"):
            raise ConfigError(f'"classifier_pooling" should be cls or mean, not {self.classifier_pooling!r:.40}')
        if len(self.layer_types) not in (0, self.num_hidden_layers) or set(self.layer_types) - {FULL, SLIDING}:
            raise ConfigError(f'"layer_types" should name {FULL} or {SLIDING} for each layer')
        if not 1 <= self.context_length <= 1 << 26:
            raise ConfigError(f'"max_position_embeddings" leaves a context of {self.context_length} tokens')
        if not self.layer_norm_eps > 0:
            raise ConfigError(f'"layer_norm_eps" should be above 0, not {self.layer_norm_eps!r}')
        activation(self.hidden_act)
        activation(self.classifier_activation)

    @property
    def family(self) -> EncoderFamily:
        return encoder_family_of(self.model_type)

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def context_length(self) -> int:
        """Tokens that it can read at once."""
        taken = (self.pad_token_id or 0) + 1 if self.family.offset_positions else 0
        return self.max_position_embeddings - taken

    def names(self) -> Names:
        """How the family's files name the tensors."""
        return Names(self.family.rules(self), base_prefix=self.family.prefix)

    @classmethod
    def from_hf(cls, values: Mapping[str, Any]) -> EncoderConfig:
        """From the content of a config.json; the head is that of its `architectures`."""
        family = encoder_family_of(values.get("model_type"))
        head = _head(family, values.get("architectures"))
        given = {
            _RENAMED.get(key, key): value
            for key, value in by_layer_type(_older(values) if family.modern else values).items()
            if key not in _NO_EFFECT and key != "architectures"
        }
        for key, allowed in _ONLY.items():
            if given.pop(key, allowed[0]) not in allowed:
                raise ConfigError(f'"{key}" = {values[key]!r:.60} is not supported', hint=f"supported: {allowed[0]!r}")
        labels, count = read_labels(
            given.pop("id2label", None), given.pop("label2id", None), given.pop("num_labels", None)
        )
        if head not in ("sequence", "token"):
            labels, count = None, 2
        else:
            check_problem(values, count)
        arguments = {**family.defaults, **{key: value for key, value in given.items() if value is not None}}
        if family.modern:
            rope = read_rope(given, family.defaults["rope_theta"])
            if rope.pop("rope_scaling") is not None:
                raise ConfigError("rope scaling is not supported for modernbert")
            arguments |= rope
            for key in ("rope_parameters", "rope_scaling"):
                arguments.pop(key, None)
            every = arguments.pop("global_attn_every_n_layers", 3)
            layers = arguments["num_hidden_layers"]
            if not isinstance(every, int) or isinstance(every, bool) or every < 1 or not isinstance(layers, int):
                raise ConfigError('"global_attn_every_n_layers" and "num_hidden_layers" should be numbers above 0')
            arguments.setdefault("layer_types", [SLIDING if n % every else FULL for n in range(min(layers, 4096))])
        known = {f.name for f in dataclasses.fields(cls)} - {"head"} - (set() if family.modern else _MODERN)
        odd = sorted(arguments.keys() - known - set(family.defaults))
        if odd:
            raise ConfigError(f"config.json has keys that are not supported for {family.model_type}: {', '.join(odd)}")
        arguments |= {"head": head, "num_labels": count, "id2label": labels, "model_type": family.model_type}
        return from_dict(cls, arguments, where="config.json")

    def to_hf(self) -> dict[str, Any]:
        """The content of a config.json that transformers reads."""
        values = to_dict(self)
        family, head, labels = self.family, values.pop("head"), values.pop("id2label")
        count = values.pop("num_labels")
        if head in ("sequence", "token"):
            labels = labels or {str(n): f"LABEL_{n}" for n in range(count)}
            values |= {"id2label": labels, "label2id": {str(text): int(n) for n, text in labels.items()}}
        if not family.modern:
            values = {key: value for key, value in values.items() if key not in _MODERN | {"norm_bias"}}
        else:
            values.pop("type_vocab_size")
            local = {"rope_type": "default", "rope_theta": values.pop("rope_local_base_freq")}
            table = {"rope_type": "default", "rope_theta": values.pop("rope_theta")}
            values |= {"global_rope_theta": table["rope_theta"], "local_rope_theta": local["rope_theta"]}
            values |= {"rope_parameters": {FULL: table, SLIDING: local}, "norm_eps": values.pop("layer_norm_eps")}
            values["hidden_activation"] = values.pop("hidden_act")
            values["layer_types"] = values["layer_types"] or [FULL] * self.num_hidden_layers
        return {"architectures": [family.architecture + _CLASSES[head]], **values}


def encoder_family_of(model_type: object) -> EncoderFamily:
    """The family of a `model_type`; ConfigError with the nearest known one."""
    family = ENCODER_FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise ConfigError(f"unsupported model_type {model_type!r:.60}", hint=nearest(str(model_type), ENCODER_FAMILIES))
    return family


def _older(values: Mapping[str, Any]) -> dict[str, Any]:
    """ModernBERT's older rotary keys under the names of today."""
    result = dict(values)
    for old, new in (("global_rope_theta", "rope_theta"), ("local_rope_theta", "rope_local_base_freq")):
        if old in result:
            result.setdefault(new, result.pop(old))
    return result


def read_labels(labels: object, numbers: object, count: object) -> tuple[dict[str, Any] | None, Any]:
    """The names of classes by number, and how many there are, from the three keys that may say so."""
    for table in (labels, numbers):
        if table is not None and not isinstance(table, Mapping):
            raise ConfigError('"id2label" and "label2id" should be tables')
    if not labels and isinstance(numbers, Mapping):
        labels = {number: text for text, number in numbers.items()}
    named = {str(number): str(text) for number, text in labels.items()} if isinstance(labels, Mapping) else {}
    if set(named) - {str(n) for n in range(len(named))}:
        raise ConfigError('"id2label" should number its labels from 0 on')
    if named and count not in (None, len(named)):
        raise ConfigError(f'"num_labels" is {count!r:.40}, but {len(named)} labels have names')
    return named or None, len(named) or count or 2


def check_problem(values: Mapping[str, Any], count: object) -> None:
    """ConfigError for a `problem_type` whose answers are neither one label of several nor one number."""
    problem = values.get("problem_type")
    if problem not in (None, "single_label_classification") and not (problem == "regression" and count == 1):
        raise ConfigError(
            f'"problem_type" = {problem!r:.60} with {count} outputs is not supported',
            hint="supported: single_label_classification, and regression with one output",
        )


def _head(family: EncoderFamily, architectures: object) -> str:
    if not architectures:
        return "none"
    name = architectures[0] if isinstance(architectures, list) and isinstance(architectures[0], str) else ""
    ending = name.removeprefix(family.architecture)
    known = {**{text: head for head, text in _CLASSES.items()}, "ForPreTraining": "masked"}
    if not name.startswith(family.architecture) or ending not in known:
        raise ConfigError(
            f"architecture {name or architectures!r:.60} is not supported",
            hint="supported: " + ", ".join(family.architecture + text for text in known),
        )
    return known[ending]
