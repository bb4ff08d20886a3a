"""Seq2SeqConfig: an encoder-decoder transformer's sizes and options (T5, T5 v1.1, mT5), to and from config.json.

A key of config.json is read, known to make no difference in evaluation, or an error that names it. This module does
not know tensors or files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import ConfigError, nearest
from bloomery.models.feed_forward import activation
from bloomery.models.naming import Names, Rule, renamed

ARCHITECTURES = {"t5": "T5ForConditionalGeneration", "mt5": "MT5ForConditionalGeneration"}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "t5": {"vocab_size": 32128, "d_ff": 2048, "num_layers": 6, "num_heads": 8, "feed_forward_proj": "relu"},
    "mt5": {"vocab_size": 250112, "d_ff": 1024, "num_layers": 8, "num_heads": 6, "feed_forward_proj": "gated-gelu"},
}
_NO_EFFECT = frozenset(
    {
        *("transformers_version", "use_cache", "torch_dtype", "dtype", "classifier_dropout"),
        *("initializer_factor", "n_positions", "task_specific_params", "output_past", "_name_or_path"),
        *(
            "is_encoder_decoder",
            "dense_act_fn",
            "is_gated_act",
            "architectures",
            "tokenizer_class",
            "gradient_checkpointing",
        ),
        *("id2label", "label2id", "return_dict", "output_hidden_states", "output_attentions", "problem_type"),
        *("chunk_size_feed_forward", "model_type", "is_decoder"),
    }
)


@dataclass(frozen=True, kw_only=True)
class Seq2SeqConfig:
    """Names are T5's own. Raises ConfigError for sizes that make no model."""

    model_type: str = "t5"
    vocab_size: int
    d_model: int = 512
    d_kv: int = 64
    d_ff: int
    num_layers: int
    num_decoder_layers: int
    num_heads: int
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    feed_forward_proj: str = "relu"
    """An activation, or "gated-" and one."""
    tie_word_embeddings: bool = True
    """The output head is the embedding."""
    scale_decoder_outputs: bool = True
    """Hidden states are multiplied by d_model^-1/2 before the head (T5, but not v1.1)."""
    dropout_rate: float = 0.0
    """Share zeroed in training: of embeddings, of what each part of a block adds, of what each half gives. The
    published nets zero as much of the attention weights and inside of the feed-forward, too."""
    decoder_start_token_id: int = 0
    pad_token_id: int = 0
    eos_token_id: int = 1

    def __post_init__(self) -> None:
        if self.model_type not in ARCHITECTURES:
            raise ConfigError(
                f"unsupported model_type {self.model_type!r:.60}", hint=nearest(self.model_type, ARCHITECTURES)
            )
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and not field.name.endswith("_id") and not 1 <= value <= 1 << 22:
                raise ConfigError(f'"{field.name}" should be from 1 to {1 << 22:,}, not {value!r}')
        if self.relative_attention_num_buckets < 4 or self.relative_attention_num_buckets % 4:
            raise ConfigError('"relative_attention_num_buckets" should be a multiple of 4')
        if self.relative_attention_max_distance <= self.relative_attention_num_buckets // 2:
            raise ConfigError('"relative_attention_max_distance" should be above half the number of buckets')
        if not self.layer_norm_epsilon > 0:
            raise ConfigError(f'"layer_norm_epsilon" should be above 0, not {self.layer_norm_epsilon!r}')
        if not 0 <= self.dropout_rate < 1:
            raise ConfigError(f'"dropout_rate" should be at least 0 and below 1, not {self.dropout_rate!r}')
        activation(self.hidden_act)

    @property
    def gated(self) -> bool:
        return self.feed_forward_proj.startswith("gated-")

    @property
    def hidden_act(self) -> str:
        """The activation; "gated-gelu" means the tanh form, as published."""
        name = self.feed_forward_proj.removeprefix("gated-")
        return "gelu_new" if self.feed_forward_proj == "gated-gelu" else name

    def names(self) -> Names:
        """How the published files name the tensors."""
        return Names(_rules(self))

    @classmethod
    def from_hf(cls, values: Mapping[str, Any]) -> Seq2SeqConfig:
        """From the content of a config.json."""
        kind = values.get("model_type")
        if not isinstance(kind, str) or kind not in ARCHITECTURES:
            raise ConfigError(f"unsupported model_type {kind!r:.60}", hint=nearest(str(kind), ARCHITECTURES))
        if values.get("quantization_config") is not None:
            raise ConfigError('"quantization_config" is not supported')
        given = {key: value for key, value in values.items() if key not in _NO_EFFECT and value is not None}
        arguments = {**_DEFAULTS[kind], "dropout_rate": 0.1, **given, "model_type": kind}
        arguments.setdefault("num_decoder_layers", arguments["num_layers"])
        # Before transformers 5 a tied head of T5 said both: that it is the embedding, and that its input is scaled.
        arguments.setdefault("scale_decoder_outputs", kind == "t5" and arguments.get("tie_word_embeddings", True))
        odd = sorted(arguments.keys() - {field.name for field in dataclasses.fields(cls)})
        if odd:
            raise ConfigError(f"config.json has keys that are not supported for {kind}: {', '.join(odd)}")
        return from_dict(cls, arguments, where="config.json")

    def to_hf(self) -> dict[str, Any]:
        """The content of a config.json that transformers reads."""
        return {"architectures": [ARCHITECTURES[self.model_type]], "is_encoder_decoder": True, **to_dict(self)}


def _rules(config: Seq2SeqConfig) -> Iterator[Rule]:
    yield renamed("shared.weight", "embed_tokens.weight")
    for stack, layers in (("encoder", config.num_layers), ("decoder", config.num_decoder_layers)):
        first = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        yield renamed(first, f"{stack}.bias.embedding.weight")
        yield renamed(f"{stack}.final_layer_norm.weight", f"{stack}.norm.weight")
        for number in range(layers):
            theirs, ours = f"{stack}.block.{number}.layer", f"{stack}.layers.{number}"
            parts = [("0.SelfAttention", "0.layer_norm", "self_attn", "input_layernorm")]
            if stack == "decoder":
                parts.append(("1.EncDecAttention", "1.layer_norm", "cross_attn", "cross_attention_layernorm"))
            for attention, norm, our_attention, our_norm in parts:
                for letter in "qkvo":
                    yield renamed(
                        f"{theirs}.{attention}.{letter}.weight", f"{ours}.{our_attention}.{letter}_proj.weight"
                    )
                yield renamed(f"{theirs}.{norm}.weight", f"{ours}.{our_norm}.weight")
            last = len(parts)
            inner = (("wi_0", "gate_proj"), ("wi_1", "up_proj")) if config.gated else (("wi", "up_proj"),)
            for old, new in (*inner, ("wo", "down_proj")):
                yield renamed(f"{theirs}.{last}.DenseReluDense.{old}.weight", f"{ours}.mlp.{new}.weight")
            yield renamed(f"{theirs}.{last}.layer_norm.weight", f"{ours}.post_attention_layernorm.weight")
