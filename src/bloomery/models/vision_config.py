"""VisionConfig: an image encoder's sizes, options and head under Hugging Face's names, to and from config.json.

A key of config.json is read, known to make no difference in evaluation, or an error that names it. This module does
not know tensors or files, nor how an image becomes numbers (see `image_processor`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import ConfigError, nearest
from bloomery.models.encoder_config import check_problem, read_labels
from bloomery.models.feed_forward import activation
from bloomery.models.naming import Names
from bloomery.models.vision_families import VisionFamily, vision_family_of

HEADS = ("none", "pooler", "projection", "classes")
# Keys that do not change what a tower computes in evaluation, whatever their value; most are the generation settings
# that older files repeat in every part.
NO_EFFECT = frozenset(
    {
        *("transformers_version", "_name_or_path", "torch_dtype", "dtype", "return_dict", "use_cache", "model_type"),
        *("output_hidden_states", "output_attentions", "output_scores", "_attn_implementation", "attn_implementation"),
        *("_attn_implementation_autoset", "chunk_size_feed_forward", "problem_type", "finetuning_task", "auto_map"),
        *("attention_dropout", "dropout", "hidden_dropout_prob", "attention_probs_dropout_prob", "encoder_stride"),
        *("initializer_factor", "gradient_checkpointing", "tokenizer_class", "prefix", "task_specific_params"),
        *("bad_words_ids", "begin_suppress_tokens", "suppress_tokens", "decoder_start_token_id", "sep_token_id"),
        *("forced_bos_token_id", "forced_eos_token_id", "diversity_penalty", "length_penalty", "repetition_penalty"),
        *("do_sample", "early_stopping", "temperature", "top_k", "top_p", "typical_p", "num_beams", "num_beam_groups"),
        *("num_return_sequences", "max_length", "min_length", "no_repeat_ngram_size", "remove_invalid_values"),
        *("encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "return_dict_in_generate"),
        *("torchscript", "use_bfloat16", "tf_legacy_loss", "tie_word_embeddings", "transformers.js_config"),
        *("id2label", "label2id", "num_labels"),  # read before where there is a head of classes
    }
)
ONLY: dict[str, tuple[Any, ...]] = {
    "is_decoder": (False, None),
    "is_encoder_decoder": (False, None),
    "add_cross_attention": (False, None),
    "cross_attention_hidden_size": (None,),
    "tie_encoder_decoder": (False, None),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
}
_LARGEST = 1 << 22
_MOST_LAYERS = 1024


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """What every tower has, of images or of text. Raises ConfigError for sizes that make no model."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        check_sizes(self, "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        if self.num_hidden_layers > _MOST_LAYERS:
            raise ConfigError(f"{self.num_hidden_layers:,} layers are more than {_MOST_LAYERS:,}")
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        for name in ("layer_norm_eps", "initializer_range"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f'"{name}" should be above 0, not {value!r}')
        activation(self.hidden_act)

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


@dataclass(frozen=True, kw_only=True)
class VisionConfig(TowerConfig):
    """Sizes and options of one image encoder. Raises ConfigError for sizes that make no model."""

    model_type: str = "vit"
    num_channels: int = 3
    image_size: int | tuple[int, ...] = 224
    """Pixels; a pair is (height, width)."""
    patch_size: int | tuple[int, ...] = 16
    qkv_bias: bool = True
    head: str = "none"
    """"none" (CLIP and SigLIP pool all the same), "pooler" or "classes" (ViT), "projection" (CLIP)."""
    vision_use_head: bool = True
    """SigLIP: pool by attention; false: there is no pooled vector."""
    projection_dim: int = 512
    """CLIP: width of the "projection"."""
    pooler_output_size: int | None = None
    """ViT: width of the "pooler"; None: hidden_size."""
    pooler_act: str = "tanh"
    num_labels: int = 2
    """Classes of a "classes" head."""
    id2label: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "num_channels", "projection_dim", "num_labels")
        if self.pooler_output_size is not None:
            check_sizes(self, "pooler_output_size")
        family = self.family
        for name in ("image_size", "patch_size"):
            value = getattr(self, name)
            numbers = value if isinstance(value, tuple) else (value,)
            if len(numbers) not in (1, 2) or not all(1 <= number <= 1 << 14 for number in numbers):
                raise ConfigError(f'"{name}" should be a number from 1 to {1 << 14:,}, or two, not {value!r}')
            if isinstance(value, tuple) and not family.any_shape:
                raise ConfigError(f'"{name}" of {self.model_type} should be one number, not {value!r}')
        if not all(self.grid):
            raise ConfigError(f"no patch of {self.patch_size} fits an image of {self.image_size}")
        if self.grid[0] * self.grid[1] > 1 << 20:
            raise ConfigError(f"{self.grid[0] * self.grid[1]:,} patches an image are too many")
        if self.head not in HEADS:
            raise ConfigError(f"unknown head {self.head!r:.40}", hint=nearest(self.head, HEADS))
        if self.head not in _CLASSES[self.model_type]:
            raise ConfigError(f"family {self.model_type} has no head {self.head!r}")
        activation(self.pooler_act)

    @property
    def family(self) -> VisionFamily:
        return vision_family_of(self.model_type)

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return _pair(self.image_size)

    @property
    def patch_shape(self) -> tuple[int, int]:
        """Height and width of a patch in pixels."""
        return _pair(self.patch_size)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches; pixels that fill none are left out."""
        (height, width), (rows, columns) = self.image_shape, self.patch_shape
        return height // rows, width // columns

    @property
    def num_positions(self) -> int:
        """Patches, and the class token where there is one."""
        return self.grid[0] * self.grid[1] + self.family.cls_token

    def names(self, prefix: str | None = None) -> Names:
        """How the family's files name the tensors; without `prefix`, read with the family's or none."""
        known = self.family.prefix
        if prefix is not None:
            return Names(self.family.rules(self, prefix))
        return Names(self.family.rules(self, known), base_prefix=known)

    @classmethod
    def from_hf(cls, values: Mapping[str, Any]) -> VisionConfig:
        """From the content of a config.json, or of its vision_config; the head is that of its `architectures`."""
        family = vision_family_of(values.get("model_type"))
        head = _head(family, values.get("architectures"))
        given = dict(values)
        labels, count = read_labels(*(given.pop(key, None) for key in ("id2label", "label2id", "num_labels")))
        fields = {*family.fields, *_EVERY}
        # A language model's numbers stand in LLaVA's vision_config; no image encoder has any use for them.
        arguments = read_keys(given, fields, what=family.model_type, ignored={"architectures", "vocab_size"})
        arguments = {**family.defaults, **arguments, "model_type": family.model_type, "head": head}
        if head == "classes":
            check_problem(values, count)
            arguments |= {"num_labels": count, "id2label": labels}
        return from_dict(cls, arguments, where="config.json")

    def to_hf(self) -> dict[str, Any]:
        """The content of a config.json that transformers reads."""
        family, values = self.family, to_dict(self)
        document = {key: values[key] for key in sorted(values) if key in family.fields or key in _EVERY}
        if "pooler_output_size" in document:
            document["pooler_output_size"] = self.pooler_output_size or self.hidden_size
        if self.head == "classes":
            labels = self.id2label or {str(n): f"LABEL_{n}" for n in range(self.num_labels)}
            document |= {"id2label": labels, "label2id": {str(text): int(n) for n, text in labels.items()}}
        architecture = family.architecture + _CLASSES[self.model_type][self.head]
        return {"architectures": [architecture], "model_type": self.model_type, **document}


_EVERY = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "layer_norm_eps"),
    *("num_channels", "image_size", "patch_size"),
)
# The heads that a family may have, and what follows the stem in the name of the class that has one.
_CLASSES: dict[str, dict[str, str]] = {
    "vit": {"pooler": "Model", "none": "Model", "classes": "ForImageClassification"},
    "clip_vision_model": {"none": "Model", "projection": "ModelWithProjection"},
    "siglip_vision_model": {"none": "Model"},
}


def _head(family: VisionFamily, architectures: object) -> str:
    classes = {ending: head for head, ending in reversed(_CLASSES[family.model_type].items())}
    if not architectures:
        return classes["Model"]
    name = architectures[0] if isinstance(architectures, list) and isinstance(architectures[0], str) else ""
    ending = name.removeprefix(family.architecture)
    if not name.startswith(family.architecture) or ending not in classes:
        raise ConfigError(
            f"architecture {name or architectures!r:.60} is not supported",
            hint="supported: " + ", ".join(family.architecture + text for text in classes),
        )
    return classes[ending]


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value[0], value[-1]) if isinstance(value, tuple) else (value, value)


def check_sizes(config: Any, *names: str) -> None:
    """ConfigError unless each of the fields is a size that a model can have."""
    for name in names:
        if not 1 <= getattr(config, name) <= _LARGEST:
            raise ConfigError(f'"{name}" should be from 1 to {_LARGEST:,}, not {getattr(config, name)!r}')


def read_keys(
    values: Mapping[str, Any],
    fields: set[str],
    *,
    what: str,
    ignored: set[str] | frozenset[str] = frozenset(),
    nullable: set[str] | frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """The keys among `fields` that say something; a null one is as good as absent, unless it is `nullable`.

    ConfigError naming every key that is neither known nor without effect.
    """
    for key, allowed in ONLY.items():
        if key in values and values[key] not in allowed:
            raise ConfigError(f'"{key}" = {values[key]!r:.60} is not supported', hint=f"supported: {allowed[0]!r}")
    rest = {key: value for key, value in values.items() if key not in NO_EFFECT | ignored and key not in ONLY}
    odd = sorted(key for key, value in rest.items() if key not in fields and value is not None)
    if odd:
        raise ConfigError(f"config.json has keys that are not supported for {what}: {', '.join(odd)}")
    return {k: v for k, v in rest.items() if k in fields and (v is not None or k in nullable)}
