"""VisionLanguageConfig: an image encoder, a projector and a decoder in one (LLaVA), to and from config.json.

A key of config.json is read, known to make no difference in evaluation, or an error that names it. This module does
not know tensors or files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bloomery.core.config import from_dict
from bloomery.core.errors import ConfigError
from bloomery.models.config import ModelConfig
from bloomery.models.feed_forward import activation
from bloomery.models.naming import Names, Rule
from bloomery.models.vision_config import VisionConfig, read_keys
from bloomery.models.vision_families import prefixed

MODEL_TYPE, ARCHITECTURE = "llava", "LlavaForConditionalGeneration"
TOWERS = ("clip_vision_model", "siglip_vision_model")
_STRATEGIES = ("default", "full")
# The tower of a config.json that names none: CLIP's ViT-L/14 at 336 pixels.
_USUAL_TOWER = {
    "model_type": "clip_vision_model",
    "intermediate_size": 4096,
    "hidden_size": 1024,
    "patch_size": 14,
    "image_size": 336,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "projection_dim": 768,
}
_FIELDS = {
    "projector_hidden_act",
    "vision_feature_select_strategy",
    "vision_feature_layer",
    "multimodal_projector_bias",
}
# What the parts say for themselves, how training is masked, and a number for other programs.
_IGNORED = {"architectures", "text_config", "vision_config", "ignore_index", "image_seq_length", "vocab_size"}
_IGNORED |= {"pad_token_id", "bos_token_id", "eos_token_id", "hidden_size"}


@dataclass(frozen=True, kw_only=True)
class VisionLanguageConfig:
    """Sizes and options of a model that reads images and text. Raises ConfigError for parts that do not fit."""

    text_config: ModelConfig
    vision_config: VisionConfig
    image_token_id: int = 32000
    """The token in whose places an image's vectors stand; the same as image_token_index in config.json."""
    projector_hidden_act: str = "gelu"
    multimodal_projector_bias: bool = True
    vision_feature_layer: int | tuple[int, ...] = -2
    """Which layer's output the projector reads, as Python counts, 0 being what goes into the first; of several, their
    vectors one after another."""
    vision_feature_select_strategy: str = "default"
    """"default" leaves the first vector out, which for CLIP is the class token's; "full" takes all."""

    def __post_init__(self) -> None:
        vision = self.vision_config
        if vision.model_type not in TOWERS or vision.head != "none":
            raise ConfigError(f'"vision_config" is a {vision.model_type}', hint="supported: " + ", ".join(TOWERS))
        if not 0 <= self.image_token_id < self.text_config.vocab_size:
            raise ConfigError(
                f"image token {self.image_token_id} is outside the vocabulary of {self.text_config.vocab_size:,}"
            )
        if self.vision_feature_select_strategy not in _STRATEGIES:
            raise ConfigError(
                f'"vision_feature_select_strategy" cannot be {self.vision_feature_select_strategy!r:.60}',
                hint="supported: " + ", ".join(_STRATEGIES),
            )
        layers = vision.num_hidden_layers + 1
        if not self.layers or not all(-layers <= layer < layers for layer in self.layers):
            raise ConfigError(f'"vision_feature_layer" should be from {-layers} to {layers - 1}, not {self.layers}')
        if self.num_image_tokens < 1:
            raise ConfigError("an image has no vectors: it is one patch, which is left out")
        if self.text_config.final_logit_softcapping is not None:
            raise ConfigError(
                '"final_logit_softcapping" is not supported within llava: the reference does not apply it',
                hint="set it to null if the model was trained without",
            )
        if self.text_config.tie_word_embeddings and self.text_config.family.base_prefix:
            raise ConfigError(f"a {self.text_config.model_type} with a tied head is not supported within llava")
        activation(self.projector_hidden_act)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that the projector reads."""
        layer = self.vision_feature_layer
        return layer if isinstance(layer, tuple) else (layer,)

    @property
    def num_image_tokens(self) -> int:
        """How many places an image takes in a text."""
        return self.vision_config.num_positions - (self.vision_feature_select_strategy == "default")

    @property
    def model_type(self) -> str:
        return MODEL_TYPE

    def names(self, *, tower_prefix: str) -> Names:
        """How published files name the tensors; `tower_prefix` is what stands before those of the image encoder."""
        return Names([*self._text_rules(), *self._vision_rules(tower_prefix)])

    def _vision_rules(self, prefix: str) -> Iterator[Rule]:
        vision = self.vision_config
        yield from prefixed(vision.family.rules(vision, prefix), "", "vision_tower.")

    def _text_rules(self) -> Iterator[Rule]:
        """The decoder's, whose base model is called "model" within a whole, whatever its files call it alone."""
        family = self.text_config.family
        heads = {"embed_out.weight": "lm_head.weight"}
        for rule in family.rules(self.text_config):
            theirs = heads.get(rule.theirs, rule.theirs)
            if family.base_prefix and theirs.startswith(family.base_prefix):
                theirs = "model." + theirs.removeprefix(family.base_prefix)
            yield from prefixed(iter([dataclasses.replace(rule, theirs=theirs)]), "language_model.", "language_model.")

    @classmethod
    def from_hf(cls, values: Mapping[str, Any]) -> VisionLanguageConfig:
        """From the content of a config.json. Raises ConfigError naming every key that is not supported."""
        if values.get("model_type") != MODEL_TYPE:
            raise ConfigError(f"unsupported model_type {values.get('model_type')!r:.60}", hint=f"known: {MODEL_TYPE}")
        if (values.get("architectures") or [ARCHITECTURE]) != [ARCHITECTURE]:
            raise ConfigError(
                f"architecture {values['architectures']!r:.60} is not supported", hint=f"supported: {ARCHITECTURE}"
            )
        rest = dict(values)
        ids = [rest.pop(key) for key in ("image_token_id", "image_token_index") if rest.get(key) is not None]
        if len(ids) > 1 and ids[0] != ids[1]:
            raise ConfigError('"image_token_id" and "image_token_index" are not the same')
        arguments = read_keys(rest, _FIELDS, what=MODEL_TYPE, ignored=_IGNORED)
        if ids:
            arguments["image_token_id"] = ids[0]
        vision = {"model_type": "clip_vision_model", **_table(values, "vision_config", _USUAL_TOWER)}
        vision.pop("architectures", None)
        text = {"model_type": "llama", **_table(values, "text_config", {})}
        # The decoder's head may be tied by either; the reference ties it in both cases.
        if values.get("tie_word_embeddings") is True:
            text["tie_word_embeddings"] = True
        parts = {"text_config": ModelConfig.from_hf(text), "vision_config": VisionConfig.from_hf(vision)}
        plain = from_dict(_Plain, arguments, where="config.json")
        return cls(**parts, **dataclasses.asdict(plain))

    def to_hf(self) -> dict[str, Any]:
        """The content of a config.json that transformers reads."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(_Plain)}
        layer = own.pop("vision_feature_layer")
        text = {key: value for key, value in self.text_config.to_hf().items() if key != "architectures"}
        vision = {key: value for key, value in self.vision_config.to_hf().items() if key != "architectures"}
        return {
            "architectures": [ARCHITECTURE],
            "model_type": MODEL_TYPE,
            "image_token_index": own.pop("image_token_id"),
            "image_seq_length": self.num_image_tokens,
            "vision_feature_layer": list(layer) if isinstance(layer, tuple) else layer,
            "tie_word_embeddings": self.text_config.tie_word_embeddings,
            **own,
            "text_config": {"model_type": self.text_config.model_type, **text},
            "vision_config": vision,
        }


@dataclass(frozen=True, kw_only=True)
class _Plain:
    """The keys that are plain values, for their types to be checked."""

    image_token_id: int = 32000
    projector_hidden_act: str = "gelu"
    multimodal_projector_bias: bool = True
    vision_feature_layer: int | tuple[int, ...] = -2
    vision_feature_select_strategy: str = "default"


def _table(values: Mapping[str, Any], name: str, usual: Mapping[str, Any]) -> Mapping[str, Any]:
    table = values.get(name)
    if table is None:
        return usual
    if not isinstance(table, Mapping):
        raise ConfigError(f'"{name}" should be a table')
    return {key: value for key, value in table.items() if key != "model_type" or value is not None}
