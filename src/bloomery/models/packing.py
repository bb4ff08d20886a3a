"""Packing: the linear layers of a loaded model replaced by packed ones, several of one input by one product.

Names on disk do not change: this is done to a model in memory, for inference. Queries, keys and values share a
product, and gate and up, for every product costs a call and a turn of the thread pool. The token embedding stays as
it is; the output head is packed beside it, even where the two are tied. Routers of experts stay float32. An operator
that fails its check gives way to float32 in oneDNN's layout, and that to the plain layer: logged, and in the report.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.core.errors import BloomeryError, ConfigError, nearest
from bloomery.models.attention import Attention
from bloomery.models.decoder import Decoder
from bloomery.models.feed_forward import GatedFeedForward, MixtureOfExperts
from bloomery.models.packed import BITS, CPU_FORMATS, CUDA_FORMATS, Float16Linear, PackedLinear, checked, packed
from bloomery.models.quantize import QuantizedWeight, divides

log = logging.getLogger("bloomery.models")

HEAD_FORMATS = {"int4": "int8"}
"""In what an output head is packed, where it is not the format of the other layers: it is the layer that 4 bits
hurt most, and llama.cpp's 4-bit files keep it wider too."""
_HEAD = "lm_head"
Maker = Callable[..., PackedLinear]
"""Makes a layer, as `packed` does, which is meant by None."""


@dataclass(frozen=True)
class Packing:
    """What was done to a model: the format, how many matrices are in it, `bytes` of all packed ones, and why some
    are in another."""

    format: str
    matrices: int
    bytes: int
    fallbacks: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "format": self.format,
            "matrices": self.matrices,
            "bytes": self.bytes,
            "fallbacks": list(self.fallbacks),
        }


class _Joint(nn.Module):
    """One product for several layers of the same input, kept from the first of them until each has taken its part.
    A layer that is asked twice, another input or another thread in between only make it compute again."""

    def __init__(self, matrix: nn.Module, sizes: Sequence[int]) -> None:
        super().__init__()
        self.matrix, self.sizes = matrix, list(sizes)
        self._seen: tuple[Tensor, dict[int, Tensor]] | None = None

    def part(self, x: Tensor, index: int) -> Tensor:
        seen = self._seen
        if index == 0 or seen is None or seen[0] is not x or index not in seen[1]:
            seen = self._seen = (x, dict(enumerate(self.matrix(x).split(self.sizes, dim=-1))))
        out = seen[1].pop(index)
        if not seen[1]:
            self._seen = None
        return out


class Part(nn.Module):
    """In the place of one nn.Linear whose product is shared with its siblings."""

    def __init__(self, joint: _Joint, index: int) -> None:
        super().__init__()
        self.joint, self.index = joint, index

    def forward(self, x: Tensor) -> Tensor:
        return self.joint.part(x, self.index)

    @property
    def out_features(self) -> int:
        return self.joint.sizes[self.index]

    @property
    def in_features(self) -> int:
        return self.joint.matrix.in_features  # type: ignore[return-value]

    @property
    def weight(self) -> Tensor:
        """(O, I): this layer's own rows."""
        return self.joint.matrix.weight.split(self.joint.sizes)[self.index]  # type: ignore[operator]

    @property
    def bias(self) -> Tensor | None:
        """(O,)"""
        bias = bias_of(self.joint.matrix)
        return None if bias is None else bias.split(self.joint.sizes)[self.index]


def pack(
    model: nn.Module,
    kind: str,
    *,
    group_size: int = 32,
    head: str | None = None,
    known: Mapping[str, QuantizedWeight] | None = None,
    make: Maker | None = None,
) -> Packing:
    """Replace a model's linear layers in place; returns what was done.

    `group_size` is that of int4; `head` the format of a decoder's output head (None: as `HEAD_FORMATS` says);
    `known` are integers by the layers' names where a file gave them: those of the format's width are taken as they
    are, and layers that the file left float stay so; `make` makes the layers. ConfigError for an unknown format, a
    model that is packed already, or one that computes in another type than float32 on the CPU.
    """
    device = _check(model, kind)
    _fill_in(model, kind, known or {})
    known = {name: weight for name, weight in (known or {}).items() if weight.bits == BITS.get(kind)}
    notes: list[str] = []
    with torch.no_grad():
        for path, parent, names in list(grouped_layers(model)):
            _replace(parent, path, names, kind, known, group_size, notes, make)
        if isinstance(model, Decoder):
            _pack_head(model, head_format(kind, head, device), known, group_size, notes, make)
    for text in _summed_up(notes):
        log.warning("%s", text)
    model.eval()
    return packing_of(model) or Packing(kind, 0, 0, tuple(notes))


def _fill_in(model: nn.Module, kind: str, known: Mapping[str, QuantizedWeight]) -> None:
    """Weights that were left on the meta device, but those whose integers alone are needed."""
    kept: set[int] = set()
    for path, parent, names in grouped_layers(model):
        found = [known.get(f"{path}.{name}".lstrip(".")) for name in names]
        if all(one is not None and one.bits == BITS.get(kind) for one in found):
            kept |= {id(getattr(parent, name)) for name in names}
    for path, module in model.named_modules():
        if id(module) not in kept and isinstance(weight := module._parameters.get("weight"), Tensor) and weight.is_meta:
            module.weight = nn.Parameter(known[path].dequantized().to(weight.dtype), requires_grad=False)


def _summed_up(notes: Sequence[str]) -> list[str]:
    """A line for each reason."""
    reasons: dict[str, list[str]] = {}
    for note in notes:
        where, _, reason = note.partition(": ")
        reasons.setdefault(reason, []).append(where)
    return [f"{len(found)} x {reason}; the first is {found[0]}" for reason, found in reasons.items()]


def packing_of(model: nn.Module) -> Packing | None:
    """What `pack` did to a model; None if it did not."""
    layers = {id(m): m for m in model.modules() if isinstance(m, PackedLinear | PlainLinear)}.values()
    if not layers:
        return None
    head = getattr(model, "packed_head", None)
    asked = [layer.asked for layer in layers if layer is not head] or [head.asked]  # type: ignore[union-attr]
    fallbacks = tuple(layer.fallback for layer in layers if layer.fallback)
    good = sum(not layer.fallback for layer in layers)
    return Packing(asked[0], good, sum(layer.nbytes for layer in layers), fallbacks)


class PlainLinear(nn.Linear):
    """The plain layer, where no packed operator passed its check."""

    format = "plain float32"
    asked = ""
    fallback = ""

    @property
    def nbytes(self) -> int:
        """Bytes of its weights."""
        return self.weight.nbytes

    def train(self, mode: bool = True) -> PlainLinear:
        if mode:
            raise ConfigError("packed weights cannot be trained", hint="load the model without weights=")
        return self


def linear_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, nn.Linear]]:
    """(path, parent, name, layer) of each linear layer that may be packed: no router or gate, no output head."""
    for path, parent in model.named_modules():
        for name, layer in parent.named_children():
            gate = (isinstance(parent, MixtureOfExperts) and name == "gate") or name == "v_gate"
            if type(layer) is nn.Linear and not gate and not (isinstance(parent, Decoder) and name == _HEAD):
                yield f"{path}.{name}".lstrip("."), parent, name, layer


def grouped_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module, tuple[str, ...]]]:
    """(path of the parent, parent, names): layers that read the same input come together."""
    taken: set[int] = set()
    for path, parent, name, layer in linear_layers(model):
        if id(layer) in taken:
            continue
        names = next((group for group in _siblings(path, parent) if name in group), (name,))
        taken |= {id(getattr(parent, n)) for n in names}
        yield path.rpartition(".")[0], parent, names


def _siblings(path: str, parent: nn.Module) -> list[tuple[str, ...]]:
    if isinstance(parent, GatedFeedForward):
        return [("gate_proj", "up_proj")]
    if not isinstance(parent, Attention):
        return []
    if ".cross_attn." in f".{path}.":  # keys and values read another sequence than queries
        return [("k_proj", "v_proj")]
    same = parent.q_proj.in_features == parent.k_proj.in_features
    return [("q_proj", "k_proj", "v_proj")] if same else [("k_proj", "v_proj")]


def _replace(
    parent: nn.Module,
    path: str,
    names: tuple[str, ...],
    kind: str,
    known: Mapping[str, QuantizedWeight],
    group_size: int,
    notes: list[str],
    make: Maker | None,
) -> None:
    layers = [getattr(parent, name) for name in names]
    paths = [f"{path}.{name}".lstrip(".") for name in names]
    given = [known.get(one) for one in paths]
    if known and any(one is None for one in given):  # the file kept some of them as they were
        given = [None] * len(names)
    joined = _stacked([one for one in given if one is not None]) if given[0] is not None else None
    if joined is not None and layers[0].weight.is_meta:
        weight = joined.outline
    else:
        weight = torch.cat([layer.weight for layer in layers]) if len(layers) > 1 else layers[0].weight
    bias = _joined_bias(layers)
    keep = "float32" if known and joined is None and kind in BITS else kind
    where = " + ".join(paths)
    made = make_layer(weight, bias, keep, known=joined, group_size=group_size, where=where, notes=notes, make=make)
    if keep != kind:
        made.asked = kind
        made.fallback = f"{where}: {made.format}, for the file has floating-point weights"
    if len(names) == 1:
        setattr(parent, names[0], made)
        return
    joint = _Joint(made, [layer.out_features for layer in layers])
    for index, name in enumerate(names):
        setattr(parent, name, Part(joint, index))


def make_layer(
    weight: Tensor,
    bias: Tensor | None,
    kind: str,
    *,
    known: QuantizedWeight | None = None,
    group_size: int = 32,
    where: str = "",
    notes: list[str] | None = None,
    make: Maker | None = None,
) -> PackedLinear | PlainLinear:
    """(O, I) and (O,) packed and checked; the next best layer if that fails, and a note why."""
    reason, made = "", None
    if kind != "int4" or known is not None or divides(weight, group_size):
        try:
            made = (make or packed)(weight, bias, kind, known=known, group_size=group_size)
            if not (made.is_sound and (known is not None or _is_finite(weight))):
                checked(made, made.weight if known is None else known.dequantized().to(weight.device), bias)
                made.passed()
        except (RuntimeError, AttributeError, NotImplementedError, TypeError, BloomeryError) as error:
            made, reason = None, str(error).partition("\n")[0][:200]
    else:
        reason = f"groups of {group_size} do not divide {weight.size(1)} inputs"
    if made is None:
        made = _float_layer(weight if known is None else known.dequantized().to(weight), bias, make)
        made.fallback = f"{where or 'a layer'}: {made.format} instead of {kind} ({reason})"
        if notes is not None:
            notes.append(made.fallback)
    made.asked = kind
    return made


def _is_finite(weight: Tensor) -> bool:
    """In one pass, without a copy: a number that is none is both the least and the largest."""
    return all(bool(one.isfinite()) for one in weight.aminmax())


def _float_layer(weight: Tensor, bias: Tensor | None, make: Maker | None) -> PackedLinear | PlainLinear:
    try:
        made = (make or packed)(weight, bias, "float32")
        return checked(made, weight, bias)
    except (RuntimeError, AttributeError, NotImplementedError, TypeError, BloomeryError):
        plain = PlainLinear(weight.size(1), weight.size(0), bias=bias is not None, device="meta")
        plain.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        if bias is not None:
            plain.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
        plain.training = False
        return plain


def _pack_head(
    model: Decoder,
    kind: str,
    known: Mapping[str, QuantizedWeight],
    group_size: int,
    notes: list[str],
    make: Maker | None,
) -> None:
    weight, given = model.output_weight, known.get(_HEAD)
    made = make_layer(weight, None, kind, known=given, group_size=group_size, where=_HEAD, notes=notes, make=make)
    model.packed_head = made
    if model.lm_head is not None:
        model.lm_head = made  # type: ignore[assignment]


def head_format(kind: str, head: str | None, device: torch.device) -> str:
    """In what an output head is packed beside layers of format `kind`; `head` is what was asked for it."""
    return head or on_device(HEAD_FORMATS.get(kind, kind), device)


def on_device(kind: str, device: torch.device) -> str:
    """The format that does on a device what `kind` does on the CPU."""
    return "int8-weight-only" if kind == "int8" and device.type == "cuda" else kind


def _check(model: nn.Module, kind: str) -> torch.device:
    first = next(model.parameters())
    formats = CUDA_FORMATS if first.is_cuda else CPU_FORMATS
    if kind not in formats:
        raise ConfigError(
            f"weights cannot be packed as {kind!r:.40} on {first.device.type}", hint=nearest(kind, formats)
        )
    if packing_of(model) is not None:
        raise ConfigError("the model is packed already", hint="load it anew")
    if not first.is_cuda and first.dtype != torch.float32:
        raise ConfigError(f"packed weights compute in float32, not {first.dtype}", hint='load with dtype="float32"')
    return first.device


def _stacked(parts: Sequence[QuantizedWeight]) -> QuantizedWeight:
    return QuantizedWeight(torch.cat([p.codes for p in parts]), torch.cat([p.scale for p in parts]), parts[0].bits)


def _joined_bias(layers: Sequence[nn.Linear]) -> Tensor | None:
    if all(layer.bias is None for layer in layers):
        return None
    like = next(layer.bias for layer in layers if layer.bias is not None)
    return torch.cat([like.new_zeros(layer.out_features) if layer.bias is None else layer.bias for layer in layers])


def bias_of(layer: nn.Module) -> Tensor | None:
    """(O,) what a linear layer adds, in whatever layout; None: nothing."""
    if isinstance(layer, Float16Linear):
        return layer.held_bias
    bias = getattr(layer, "bias", None)
    return bias if isinstance(bias, Tensor) else None
