"""ClipConfig: the sizes and options of CLIP and SigLIP, two towers and what joins them, to and from config.json.

A key of config.json is read, known to make no difference in evaluation, or an error that names it. This module does
not know tensors or files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import ConfigError, nearest
from bloomery.models.naming import Names, Rule, renamed
from bloomery.models.vision_config import TowerConfig, VisionConfig, check_sizes, read_keys
from bloomery.models.vision_families import both, clip_layer_rules, prefixed, reshaped

CLIP_TYPES = ("clip", "siglip")
LEGACY_EOS = 2
"""With this eos_token_id, which older files have by mistake, a text's vector is that of its highest id."""
_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act")
_TEXT = {*_SIZES, "layer_norm_eps", "vocab_size", "max_position_embeddings"}
_IDS = {"pad_token_id", "bos_token_id", "eos_token_id"}
_OWN = {"clip": {"initializer_range"}, "siglip": {"projection_size"}}
_PUBLISHED_IDS = {"pad_token_id": 1, "bos_token_id": 49406, "eos_token_id": 49407}
_TEXT_DEFAULTS: dict[str, dict[str, Any]] = {
    "clip": {
        "vocab_size": 49408,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "max_position_embeddings": 77,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        **_PUBLISHED_IDS,
    },
    "siglip": {
        "vocab_size": 32000,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 64,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        **_PUBLISHED_IDS,
    },
}
_VISION_TYPE = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}
_TEXT_TYPE = {"clip": "clip_text_model", "siglip": "siglip_text_model"}
_ARCHITECTURE = {"clip": "CLIPModel", "siglip": "SiglipModel"}


@dataclass(frozen=True, kw_only=True)
class TextTowerConfig(TowerConfig):
    """Sizes and options of a text tower. Raises ConfigError for sizes that make no model."""

    vocab_size: int
    max_position_embeddings: int = 77
    projection_size: int | None = None
    """SigLIP: width of a text's vector; None: hidden_size."""
    pad_token_id: int | None = 1
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    """CLIP: a text's vector is that of the first token with this id; see `LEGACY_EOS`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "vocab_size", "max_position_embeddings")
        if self.projection_size is not None:
            check_sizes(self, "projection_size")


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """A two-tower model, CLIP or SigLIP. Raises ConfigError for towers that do not fit each other."""

    model_type: str = "clip"
    text_config: TextTowerConfig
    vision_config: VisionConfig
    projection_dim: int = 512
    """CLIP: width of the space in which images and texts meet. SigLIP meets in that of its towers."""
    logit_scale_init_value: float = 2.6592
    """CLIP: the logarithm of the first scale, 1 / 0.07."""

    def __post_init__(self) -> None:
        if self.model_type not in CLIP_TYPES:
            raise ConfigError(
                f"unsupported model_type {self.model_type!r:.60}", hint=nearest(self.model_type, CLIP_TYPES)
            )
        check_sizes(self, "projection_dim")
        vision = self.vision_config
        if vision.model_type != _VISION_TYPE[self.model_type] or vision.head != "none":
            raise ConfigError(f"{self.model_type} has a {_VISION_TYPE[self.model_type]} without a head of its own")
        if not math.isfinite(self.logit_scale_init_value):
            raise ConfigError('"logit_scale_init_value" should be a finite number')
        if self.model_type == "clip":
            if self.text_config.eos_token_id is None:
                raise ConfigError('"eos_token_id" is missing: a text\'s vector is that of its last token')
            return
        if not vision.vision_use_head:
            raise ConfigError('"vision_use_head" should be true: an image needs a vector')
        if self.output_size != vision.hidden_size:
            raise ConfigError(
                f"a text's vector has {self.output_size} numbers, an image's {vision.hidden_size}",
                hint="projection_size of text_config should be hidden_size of vision_config",
            )

    @property
    def output_size(self) -> int:
        """Width of the space in which images and texts meet."""
        if self.model_type == "clip":
            return self.projection_dim
        return self.text_config.projection_size or self.text_config.hidden_size

    def names(self) -> Names:
        """How published files name the tensors."""
        return Names(self._rules())

    def _rules(self) -> Iterator[Rule]:
        vision, text = self.vision_config, self.text_config
        yield from prefixed(vision.family.rules(vision, "vision_model."), "", "vision_model.")
        yield renamed("text_model.embeddings.token_embedding.weight", "text_model.embed_tokens.weight")
        yield renamed("text_model.embeddings.position_embedding.weight", "text_model.embed_positions.weight")
        yield from both("text_model.final_layer_norm", "text_model.norm")
        yield from prefixed(clip_layer_rules("text_model.", text.num_hidden_layers), "", "text_model.")
        if self.model_type == "siglip":
            yield reshaped("logit_scale", "logit_scale", 1)
            yield reshaped("logit_bias", "logit_bias", 1)

    @classmethod
    def from_hf(cls, values: Mapping[str, Any]) -> ClipConfig:
        """From the content of a config.json. Raises ConfigError naming every key that is not supported."""
        kind = values.get("model_type")
        if kind not in CLIP_TYPES:
            raise ConfigError(f"unsupported model_type {kind!r:.60}", hint=nearest(str(kind), CLIP_TYPES))
        architectures = values.get("architectures") or [_ARCHITECTURE[kind]]
        if architectures != [_ARCHITECTURE[kind]]:
            raise ConfigError(
                f"architecture {architectures!r:.60} is not supported", hint=f"supported: {_ARCHITECTURE[kind]}"
            )
        own = {"projection_dim", "logit_scale_init_value"} if kind == "clip" else set()
        parts = {f"{tower}_config{older}" for tower in ("text", "vision") for older in ("", "_dict")}
        arguments = read_keys(values, own, what=kind, ignored={"architectures", *parts})
        text = _text(kind, _part(values, "text_config", _TEXT_DEFAULTS[kind]))
        image = _part(values, "vision_config", {})
        if image.setdefault("model_type", _VISION_TYPE[kind]) != _VISION_TYPE[kind]:
            raise ConfigError(f'"vision_config" of {kind} cannot be a {image["model_type"]!r:.60}')
        image.pop("architectures", None)
        arguments |= {"model_type": kind, "text_config": to_dict(text)}
        arguments["vision_config"] = to_dict(VisionConfig.from_hf(image))
        return from_dict(cls, arguments, where="config.json")

    def to_hf(self) -> dict[str, Any]:
        """The content of a config.json that transformers reads."""
        kind, values = self.model_type, to_dict(self.text_config)
        text = {key: values[key] for key in sorted(values) if key in _TEXT | _IDS | _OWN[kind]}
        text |= {"model_type": _TEXT_TYPE[kind]}
        if kind == "siglip":
            text["projection_size"] = self.output_size
        vision = {key: value for key, value in self.vision_config.to_hf().items() if key != "architectures"}
        document: dict[str, Any] = {"architectures": [_ARCHITECTURE[kind]], "model_type": kind}
        if kind == "clip":
            document["projection_dim"] = self.projection_dim
            document["logit_scale_init_value"] = self.logit_scale_init_value
            text["projection_dim"] = vision["projection_dim"] = self.projection_dim
        return {**document, "text_config": text, "vision_config": vision}


def _part(values: Mapping[str, Any], name: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A tower's table; an older "..._dict" beside it replaces what it says, and with defaults what it does not."""
    table, older = values.get(name), values.get(f"{name}_dict")
    for one in (table, older):
        if one is not None and not isinstance(one, Mapping):
            raise ConfigError(f'"{name}" should be a table')
    table = table or {}
    if older is None:
        return dict(table)
    if name == "vision_config":
        plain = VisionConfig.from_hf({"model_type": "clip_vision_model"}).to_hf()
        defaults = {key: value for key, value in plain.items() if key != "architectures"}
    return {**table, **defaults, **older}


def _text(kind: str, values: dict[str, Any]) -> TextTowerConfig:
    fields = _TEXT | _IDS | _OWN[kind]
    if values.get("model_type") not in (None, _TEXT_TYPE[kind], kind):
        raise ConfigError(f'"text_config" of {kind} cannot be a {values["model_type"]!r:.60}')
    ignored = {"architectures"} | ({"projection_dim"} if kind == "clip" else set())  # the whole decides the width
    given = read_keys(values, fields, what=f"the text_config of {kind}", ignored=ignored, nullable=_IDS)
    return from_dict(TextTowerConfig, {**_TEXT_DEFAULTS[kind], **given}, where="config.json.text_config")
