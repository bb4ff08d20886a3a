"""Building: the model that an objective asks for, from random weights or from a model that is there.

What fits what: decoders learn next tokens and middles; encoders blanks; encoder-decoders and recurrent nets spans or
targets; any of them, and the small classifiers, labels. This module does not know data, losses or steps.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from bloomery.core.errors import ConfigError, nearest
from bloomery.models import Decoder, ModelConfig, load_pretrained
from bloomery.models.classifiers import ConvTextClassifier, ConvTextConfig, MeanTextClassifier, MeanTextConfig
from bloomery.models.config import every_second_layer
from bloomery.models.decoder_classifier import DecoderClassifier
from bloomery.models.encoder import Encoder, load_encoder
from bloomery.models.encoder_config import FULL, SLIDING, EncoderConfig
from bloomery.models.encoder_families import ENCODER_FAMILIES
from bloomery.models.families import family_of
from bloomery.models.recurrent import MODEL_TYPE as RECURRENT_TYPE
from bloomery.models.recurrent import RecurrentConfig, RecurrentSeq2Seq, load_recurrent
from bloomery.models.seq2seq import Seq2Seq, load_seq2seq
from bloomery.models.seq2seq_config import Seq2SeqConfig
from bloomery.models.weights import read_json
from bloomery.tokenizer import Tokenizer

DECODERS = ("qwen3", "llama", "bloom", "bloomery")
ENCODERS, RECURRENT = ("modernbert", "bert", "roberta"), ("gru", "lstm")
SEQUENCES = ("t5", *RECURRENT)
_LABELLERS = (*ENCODERS, *DECODERS, "mean", "conv")
FAMILIES = {
    "causal": DECODERS,
    "middle": DECODERS,
    "masked": ENCODERS,
    "spans": ("t5",),
    "sequence": SEQUENCES,
    "classes": _LABELLERS,
    "values": _LABELLERS,
    "tags": ENCODERS,
}
"""The families that each objective can train from random weights; the first is the default."""
_HEADS = {"masked": "masked", "classes": "sequence", "values": "sequence", "tags": "token"}
_T5 = ("t5", "mt5")
_OF_BLOOM = ("hidden_act", "rms_norm_eps", "attention_bias", "mlp_bias", "tie_word_embeddings")
"""What BLOOM's config.json does not say, or says otherwise than our default."""


@dataclass(frozen=True, kw_only=True)
class NetConfig:
    """Sizes of a model from random weights. One to start from has its own: a recipe or `--set` that gives these beside
    `--start` is refused."""

    family: str = ""
    """causal, middle: qwen3, llama, bloom, bloomery; masked, tags: modernbert, bert, roberta; spans: t5; sequence: t5,
    gru, lstm; classes, values: any encoder or decoder of these, mean, conv. Of pictures: contrastive: clip, siglip;
    captions: llava; classes, values: vit, conv. Empty: the first."""
    hidden_size: int = 128
    """Width."""
    num_hidden_layers: int = 4
    """Depth; of an encoder-decoder, of each half; of a recurrent net, of each."""
    num_attention_heads: int = 0
    """0: one for every 32 of the width."""
    intermediate_size: int = 0
    """Width of the feed-forward; 0: 8/3 of the width where it is gated, else 4 times."""
    local_attention: int = 0
    """modernbert: tokens that every layer but the last sees, half on either side; 0: all layers see everything."""
    embedding_size: int = 0
    """Width of a recurrent net's embeddings; 0: hidden_size."""
    context: Literal["state", "every_step", "additive", "dot"] = "additive"
    """How a recurrent decoder knows the source: "state", "every_step", "additive" or "dot"."""
    bidirectional: bool = True
    """A recurrent encoder reads both ways."""
    dropout: float = 0.0
    """Of t5, recurrent nets, mean and conv: the share of activations that is zeroed in training."""
    value_embeddings: bool = False
    """Of bloomery: every second layer has a token embedding of its own, added to its values."""
    bigram_vocab_size: int = 0
    """Of bloomery: rows of a hashed embedding of pairs of tokens, added to the input; 0: none."""
    image_size: int = 32
    """Height and width of pictures."""
    patch_size: int = 4
    """Height and width of the squares that a picture is cut into."""

    def heads(self) -> int:
        """The number of attention heads."""
        return self.num_attention_heads or max(1, self.hidden_size // 32)

    def width(self, *, gated: bool) -> int:
        """The width of a feed-forward."""
        return self.intermediate_size or (-(-self.hidden_size * 8 // 3 // 32) * 32 if gated else self.hidden_size * 4)


def build(
    objective: str,
    net: NetConfig,
    tokenizer: Tokenizer,
    *,
    context_length: int,
    num_labels: int = 2,
    target: Tokenizer | None = None,
) -> nn.Module:
    """A model with random weights for an objective. `target` is what a recurrent net writes with, if not `tokenizer`.
    ConfigError for a family that does not fit."""
    known = FAMILIES[objective]
    family = net.family or known[0]
    if family not in known:
        raise ConfigError(f"{family!r} cannot be trained as {objective!r}", hint=nearest(family, known))
    if family != "bloomery" and (net.value_embeddings or net.bigram_vocab_size):
        raise ConfigError(
            f"{family!r} has no value or bigram embeddings", hint="set net.family=bloomery, which only bloomery runs"
        )
    if family in DECODERS:
        decoder = Decoder(decoder_config(family, net, tokenizer, context_length))
        if objective in ("causal", "middle"):
            return decoder
        return DecoderClassifier.of(decoder, num_labels=num_labels, pad_token_id=padding(tokenizer))
    if family in ENCODERS:
        if net.local_attention and family != "modernbert":
            raise ConfigError(f"{family} has no windows", hint="local_attention goes with modernbert")
        return Encoder(_encoder_config(family, net, tokenizer, context_length, _HEADS[objective], num_labels))
    if target is not None and family not in RECURRENT:
        raise ConfigError(f"{family} reads and writes with one tokenizer", hint=f"{' and '.join(RECURRENT)} have two")
    if family == "t5":
        return Seq2Seq(_seq2seq_config(net, tokenizer))
    if family in RECURRENT:
        return RecurrentSeq2Seq(_recurrent_config(family, net, tokenizer, target or tokenizer))
    sizes: dict[str, Any] = {"vocab_size": tokenizer.vocab_size, "num_labels": num_labels, "dropout": net.dropout}
    if family == "conv":
        return ConvTextClassifier(ConvTextConfig(hidden_size=net.hidden_size, **sizes))
    return MeanTextClassifier(
        MeanTextConfig(hidden_size=net.hidden_size, intermediate_size=net.width(gated=False), **sizes)
    )


def rebuild(objective: str, folder: Path, tokenizer: Tokenizer, *, num_labels: int = 2) -> nn.Module:
    """A model that is there, with the head that an objective needs: a new random one where it has another.

    ConfigError for a kind of model that the objective cannot train.
    """
    kind = str(read_json(folder / "config.json").get("model_type"))
    wanted = FAMILIES[objective]
    if kind in ENCODER_FAMILIES and set(wanted) & set(ENCODERS):
        return thawed(with_head(load_encoder(folder), _HEADS[objective], num_labels))
    if kind in _T5 and "t5" in wanted:
        return thawed(load_seq2seq(folder))
    if kind == RECURRENT_TYPE and "gru" in wanted:
        return thawed(load_recurrent(folder))
    if set(wanted) & set(DECODERS) and kind not in (*ENCODER_FAMILIES, *_T5, RECURRENT_TYPE):
        decoder = load_pretrained(folder)
        if objective in ("causal", "middle"):
            return thawed(decoder)
        return thawed(DecoderClassifier.of(decoder, num_labels=num_labels, pad_token_id=padding(tokenizer)))
    raise ConfigError(f"a {kind!r:.40} cannot be trained as {objective!r}", hint=f"it trains {', '.join(wanted)}")


def with_head(encoder: Encoder, head: str, num_labels: int = 2) -> Encoder:
    """The encoder with another head: what both have is copied, the rest is random. The same one if it has it."""
    config = encoder.config
    if config.head == head and (head == "masked" or config.num_labels == num_labels):
        return encoder
    made = Encoder(dataclasses.replace(config, head=head, num_labels=num_labels, id2label=None))
    wanted = {name: tuple(value.shape) for name, value in made.state_dict().items() if not name.startswith("head.")}
    shared = {k: v for k, v in encoder.state_dict().items() if wanted.get(k) == tuple(v.shape)}
    made.load_state_dict(shared, strict=False)
    return made


def thawed(model: nn.Module) -> nn.Module:
    """A loaded model made trainable, in float32."""
    return model.float().requires_grad_(True).train()


def padding(tokenizer: Tokenizer) -> int:
    """The id that pads a batch."""
    return tokenizer.separator_id if tokenizer.pad_id is None else tokenizer.pad_id


def decoder_config(family: str, net: NetConfig, tokenizer: Tokenizer, context_length: int) -> ModelConfig:
    """A decoder's config of these sizes."""
    described = family_of(family)
    options = {name: described.defaults[name] for name in _OF_BLOOM} if family == "bloom" else {}
    return ModelConfig(
        model_type=family,
        vocab_size=tokenizer.vocab_size,
        hidden_size=net.hidden_size,
        num_hidden_layers=net.num_hidden_layers,
        num_attention_heads=net.heads(),
        num_key_value_heads=net.heads(),
        intermediate_size=net.width(gated=described.gated),
        head_dim=net.hidden_size // net.heads(),
        max_position_embeddings=context_length,
        value_embedding_layers=every_second_layer(net.num_hidden_layers) if net.value_embeddings else (),
        bigram_vocab_size=net.bigram_vocab_size,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_ids,
        **options,
    )


def _encoder_config(
    family: str, net: NetConfig, tokenizer: Tokenizer, context_length: int, head: str, num_labels: int
) -> EncoderConfig:
    modern = family == "modernbert"
    pad = padding(tokenizer)
    first = tokenizer.cls_id if tokenizer.cls_id is not None else tokenizer.bos_id
    last = tokenizer.sep_id if tokenizer.sep_id is not None else tokenizer.end_id
    ends: dict[str, Any] = {"cls_token_id": first, "sep_token_id": last} if modern else {}
    if not modern:
        ends = {"type_vocab_size": 2, "attention_bias": True, "mlp_bias": True, "layer_norm_eps": 1e-12}
    return EncoderConfig(
        model_type=family,
        vocab_size=tokenizer.vocab_size,
        hidden_size=net.hidden_size,
        intermediate_size=net.width(gated=modern),
        num_hidden_layers=net.num_hidden_layers,
        num_attention_heads=net.heads(),
        # RoBERTa counts positions from after the padding id.
        max_position_embeddings=context_length + (pad + 1 if family == "roberta" else 0),
        pad_token_id=pad,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.end_id,
        head=head,
        num_labels=num_labels,
        **({"norm_bias": False, "classifier_pooling": "mean"} if modern else {}),
        **_windows(net),
        **ends,
    )


def _windows(net: NetConfig) -> dict[str, Any]:
    """Local attention below, global on top; nothing where all layers see everything."""
    if not net.local_attention:
        return {}
    kinds = (SLIDING,) * (net.num_hidden_layers - 1) + (FULL,)
    return {"layer_types": kinds, "local_attention": net.local_attention}


def _seq2seq_config(net: NetConfig, tokenizer: Tokenizer) -> Seq2SeqConfig:
    pad = padding(tokenizer)
    return Seq2SeqConfig(
        vocab_size=tokenizer.vocab_size,
        d_model=net.hidden_size,
        d_kv=net.hidden_size // net.heads(),
        d_ff=net.width(gated=True),
        num_layers=net.num_hidden_layers,
        num_decoder_layers=net.num_hidden_layers,
        num_heads=net.heads(),
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        scale_decoder_outputs=False,
        dropout_rate=net.dropout,
        decoder_start_token_id=pad,
        pad_token_id=pad,
        eos_token_id=tokenizer.end_id,
    )


def _recurrent_config(cell: str, net: NetConfig, tokenizer: Tokenizer, target: Tokenizer) -> RecurrentConfig:
    return RecurrentConfig(
        source_vocab_size=tokenizer.vocab_size,
        target_vocab_size=target.vocab_size,
        cell=cell,
        context=net.context,
        bidirectional=net.bidirectional,
        embedding_size=net.embedding_size or net.hidden_size,
        hidden_size=net.hidden_size,
        num_layers=net.num_hidden_layers,
        dropout=net.dropout,
        pad_token_id=padding(tokenizer),
        bos_token_id=target.separator_id,
        eos_token_id=target.end_id,
    )
