"""A decoder described to native code: its sizes, its norms, and its matrices: those of its native
layers, or packed once more.

Which family it is makes no difference: the same description says where norms stand, what is rotated, gated, capped,
mixed and added. What it cannot say is refused with a reason: experts, parts that no family here has yet, matrices whose
inputs or formats differ. Everything whose address is given away is kept by the description. This module does not know
steps or caches.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.core.errors import DeviceError
from bloomery.models.alibi import slopes
from bloomery.models.attention import Attention
from bloomery.models.block import Block
from bloomery.models.config import ModelConfig
from bloomery.models.decoder import Decoder
from bloomery.models.feed_forward import FeedForward, GatedFeedForward
from bloomery.models.mixing import ResidualMix
from bloomery.models.native.library import ACTIVATIONS, LAYER_NORM, NO_NORM, RMS_NORM, Layer, Model, Norm
from bloomery.models.native.linear import NativeLinear
from bloomery.models.native.matrix import Matrix
from bloomery.models.norms import BareRMSNorm, RMSNorm
from bloomery.models.packed import PackedLinear, Stored
from bloomery.models.packing import Part, PlainLinear

_KNOWN = {
    *("embed_tokens", "embed_positions", "embed_norm", "smear", "embed_bigrams", "embed_values", "mix"),
    *("layers", "norm"),
    *("self_attn", "mlp", "cross_attn", "dropout", "input_layernorm", "post_attention_layernorm"),
    *("cross_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"),
    *("q_proj", "k_proj", "v_proj", "o_proj", "v_gate", "q_norm", "k_norm"),
}
"""What a trunk, its blocks and their attention consist of: with another part, nothing here would compute it."""
_HALVES = (torch.float16, torch.bfloat16)
_ELEMENTS_AT_ONCE = 1 << 16
"""Of weights: a part and what is computed of it stay in the processor's cache."""


def matrix_of(layers: Sequence[nn.Module]) -> Stored:
    """The layers of one input as one matrix, outputs one after the other; DeviceError if they cannot be one."""
    first = layers[0]
    if isinstance(first, (Part, PackedLinear)):
        if not _is_whole(layers):
            raise DeviceError("the layers of one input are packed apart")
        return matrix_of([first.joint.matrix]) if isinstance(first, Part) else first.stored()
    if not _are_plain(layers):
        raise DeviceError(f"the native step does not know {type(first).__name__}")
    return Stored(torch.cat(_weights(layers)), None, _joined_bias(layers), 32)


def _weights(layers: Sequence[Any]) -> list[Tensor]:
    """Of plain layers, each (O, I) float32."""
    return [layer.weight.detach().float() for layer in layers]


def fit(weights: Sequence[Tensor], half: torch.dtype) -> bool:
    """Whether a type of 16 bits holds each number of weights (O, I) float32, as where they come from a file in it:
    products are the same then to the last bit, and half as much is read for them. Mostly told by a look at a row."""
    if not all(torch.equal(weight[:1].to(half).float(), weight[:1]) for weight in weights):
        return False
    rows = max(1, _ELEMENTS_AT_ONCE // max(1, weights[0].size(1)))
    narrow, wide = (weights[0].new_empty(rows, weights[0].size(1), dtype=dtype) for dtype in (half, None))
    for part in (part for weight in weights for part in weight.split(rows)):
        narrow[: len(part)].copy_(part)
        if not torch.equal(wide[: len(part)].copy_(narrow[: len(part)]), part):
            return False
    return True


def _are_plain(layers: Sequence[nn.Module]) -> bool:
    return all(type(layer) in (nn.Linear, PlainLinear) for layer in layers)


def native_layer(layers: Sequence[nn.Module]) -> NativeLinear | None:
    """The native layer that the layers of one input are, if they are one."""
    first = layers[0].joint.matrix if isinstance(layers[0], Part) else layers[0]
    return first if isinstance(first, NativeLinear) and _is_whole(layers) else None


def _is_whole(layers: Sequence[nn.Module]) -> bool:
    """Whether packed layers are all of one matrix, in its order."""
    first = layers[0]
    if not isinstance(first, Part):
        return len(layers) == 1
    parts = [layer.index for layer in layers if isinstance(layer, Part) and layer.joint is first.joint]
    return parts == list(range(len(first.joint.sizes))) and len(parts) == len(layers)


def _joined_bias(layers: Sequence[Any]) -> Tensor | None:
    if all(layer.bias is None for layer in layers):
        return None
    zeros = [layer.weight.detach().new_zeros(layer.out_features) for layer in layers]
    return torch.cat([z if layer.bias is None else layer.bias.detach() for layer, z in zip(layers, zeros, strict=True)])


class Description:
    """`model` is what native code reads; `tables` the layer that stands for each rotary table."""

    def __init__(self, calls: ctypes.CDLL, decoder: Decoder) -> None:
        """DeviceError with the reason if it cannot be described."""
        check(decoder)
        self._calls, self._kept = calls, []
        self.matrices: list[Matrix] = []
        self.tables: list[int] = []
        config, trunk = decoder.config, decoder.model
        blocks = _blocks(decoder)
        self.layers = layers = (Layer * len(blocks))(*(self._layer(block) for block in blocks))
        for number, layer in enumerate(layers):
            layer.window, layer.table = config.window(number) or 0, self._table(config, number)
            layer.stream_share, layer.begun_share = _shares(trunk.mix, number)
            if (gate := blocks[number].self_attn.v_gate) is not None:
                layer.token_values = self._address(trunk.embed_values[str(number)].weight)  # type: ignore[arg-type]
                layer.value_gates = self._address(gate.weight)
        self.head = self._matrix(_head(decoder))
        attention = blocks[0].self_attn
        gates = [one.self_attn.v_gate for one in blocks if one.self_attn.v_gate is not None]
        cap = decoder.output_softcap
        alibi = torch.tensor(slopes(config.num_attention_heads)) if config.family.positions == "alibi" else None
        self.model = Model(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            rotary_dim=config.rotary_dim,
            intermediate=config.intermediate_size,
            vocabulary=config.vocab_size,
            activation=ACTIVATIONS[config.hidden_act],
            gated=config.gated,
            parallel=config.use_parallel_residual,
            tables=len(self.tables),
            mixes=trunk.mix is not None,
            gate_inputs=gates[0].in_features if gates else 0,
            smear_inputs=0 if trunk.smear is None else trunk.smear.gate.numel(),
            bigram_rows=config.bigram_vocab_size,
            embedding_scale=config.hidden_size**0.5 if config.family.scales_embeddings else 1.0,
            attention_scale=attention.scale,
            attention_cap=attention.softcap or 0.0,
            logit_cap=cap or 0.0,
            embedding=self._address(trunk.embed_tokens.weight),
            positions=None if trunk.embed_positions is None else self._address(trunk.embed_positions.weight),
            slopes=None if alibi is None else self._address(alibi),
            smear=None if trunk.smear is None else self._address(torch.cat((trunk.smear.gate[0], trunk.smear.scale))),
            bigrams=None if trunk.embed_bigrams is None else self._address(trunk.embed_bigrams.table.weight),
            layer=ctypes.addressof(layers),
            head=self.head,
            embedding_norm=self._norm(trunk.embed_norm),
            last_norm=self._norm(trunk.norm),
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all matrices."""
        return sum(matrix.nbytes for matrix in self.matrices)

    @property
    def formats(self) -> tuple[str, ...]:
        """In what the matrices are, each named once."""
        return tuple(dict.fromkeys(matrix.format for matrix in self.matrices))

    def _table(self, config: ModelConfig, layer: int) -> int:
        """The number of a layer's rotary table, one for each kind of layer; -1: none."""
        if not config.uses_rope(layer):
            return -1
        kinds = [config.layer_type(one) for one in self.tables]
        if config.layer_type(layer) not in kinds:
            self.tables.append(layer)
            return len(kinds)
        return kinds.index(config.layer_type(layer))

    def _layer(self, block: Block) -> Layer:
        attention, placement = block.self_attn, block.placement
        inside, outside = placement in ("pre", "both"), placement in ("output", "both")
        before_feed = block.post_attention_layernorm if placement == "pre" else block.pre_feedforward_layernorm
        qkv, output, up, down = (self._matrix(layers) for layers in _matrices(block))
        return Layer(
            attention_in=self._norm(block.input_layernorm if inside else None),
            attention_out=self._norm(block.post_attention_layernorm if outside else None),
            feed_in=self._norm(before_feed),
            feed_out=self._norm(block.post_feedforward_layernorm if outside else None),
            query=self._norm(attention.q_norm),
            key=self._norm(attention.k_norm),
            qkv=qkv,
            output=output,
            up=up,
            down=down,
        )

    def _matrix(self, layers: Sequence[Any]) -> int | None:
        known = native_layer(layers)
        made = self._packed(layers) if known is None else known.matrix
        self.matrices.append(made)
        return made.pointer

    def _packed(self, layers: Sequence[Any]) -> Matrix:
        if not _are_plain(layers):
            return Matrix(self._calls, *matrix_of(layers))
        weights, bias = _weights(layers), _joined_bias(layers)  # they need not be joined first
        half = next((one for one in _HALVES if fit(weights, one)), None)
        return Matrix(self._calls, weights, None, bias, 16 if half else 32, half or torch.float16)

    def _norm(self, norm: nn.Module | None) -> Norm:
        if norm is None:
            return Norm(kind=NO_NORM)
        if isinstance(norm, BareRMSNorm):
            return Norm(kind=RMS_NORM, size=norm.size, eps=norm.eps)
        if isinstance(norm, RMSNorm):
            weight = norm.weight.detach().float()
            weight = 1.0 + weight if norm.from_one else weight
            return Norm(kind=RMS_NORM, size=weight.numel(), eps=norm.eps, weight=self._address(weight))
        if isinstance(norm, nn.LayerNorm):
            size, weight, bias = norm.normalized_shape[0], norm.weight, norm.bias
            addresses = [None if one is None else self._address(one) for one in (weight, bias)]
            return Norm(kind=LAYER_NORM, size=size, eps=norm.eps, weight=addresses[0], bias=addresses[1])
        raise DeviceError(f"the native step knows no {type(norm).__name__}")

    def _address(self, tensor: Tensor) -> int:
        tensor = tensor.detach().contiguous()
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
            raise DeviceError("the native step computes in float32 on the CPU")
        self._kept.append(tensor)
        return tensor.data_ptr()


def _shares(mix: ResidualMix | None, layer: int) -> tuple[float, float]:
    """Of the stream before a layer and of that before all of them, in what it reads."""
    given = (None, None) if mix is None else (mix.resid, mix.x0)
    return 1.0 if given[0] is None else float(given[0][layer]), 0.0 if given[1] is None else float(given[1][layer])


def _blocks(decoder: Decoder) -> list[Block]:
    return list(decoder.model.layers)  # type: ignore[arg-type]


def _matrices(block: Block) -> list[list[Any]]:
    """Of a layer: queries, keys and values; output; gate and up; down."""
    attention, feed = block.self_attn, block.mlp
    ups = [feed.gate_proj, feed.up_proj] if isinstance(feed, GatedFeedForward) else [feed.up_proj]
    return [[attention.q_proj, attention.k_proj, attention.v_proj], [attention.o_proj], ups, [feed.down_proj]]


def layer_groups(decoder: Decoder) -> Iterator[list[nn.Module]]:
    """The layers that each of a description's `matrices` is made of, in their order."""
    for block in _blocks(decoder):
        yield from _matrices(block)
    yield _head(decoder)


def _head(decoder: Decoder) -> list[nn.Module]:
    made = decoder.packed_head or decoder.lm_head
    if made is not None:
        return [made]
    weight = decoder.model.embed_tokens.weight
    layer = nn.Linear(weight.size(1), weight.size(0), bias=False, device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    return [layer]


def _parts(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_children()}


def check(decoder: Decoder) -> None:
    """DeviceError with the first reason why a decoder cannot be described."""
    config = decoder.config
    blocks = _blocks(decoder)
    kinds = {type(block.mlp) for block in blocks} - {FeedForward, GatedFeedForward}
    attentions = [block.self_attn for block in blocks]
    reason = None
    if any(one.device.type != "cpu" for one in (*decoder.parameters(), *decoder.buffers())):
        reason = "weights that are not on the CPU"
    elif type(decoder) is not Decoder:
        reason = f"a {type(decoder).__name__}"
    elif kinds:
        reason = f"a {kinds.pop().__name__}"
    elif unknown := [name for part in (decoder.model, *blocks, *attentions) for name in _parts(part) - _KNOWN]:
        reason = f"the part {unknown[0]}"
    elif any(block.placement == "post" or block.cross_attn is not None for block in blocks):
        reason = "this placement of norms"
    elif not all(isinstance(one, Attention) and one.backend == "sdpa" for one in attentions):
        reason = "this attention"
    elif config.hidden_act not in ACTIVATIONS:
        reason = f"the activation {config.hidden_act}"
    if reason is not None:
        raise DeviceError(f"the native step does not know {reason}")
