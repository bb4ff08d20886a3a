"""Quantised weights in files, in compressed-tensors' layout, which vLLM and transformers read too.

config.json has a `quantization_config` whose quant_method is "compressed-tensors"; readers that do not know it stop
there. "int-quantized", of 8 bits: `x.weight` int8 (O, I) and `x.weight_scale` (O, G); with one scale for each output,
activations are rounded at run time, token by token. "pack-quantized", of 4 bits and of 8 in groups: `x.weight_packed`
int32 (O, I / 8 or I / 4), the first code in the lowest bits, each plus 8 or 128; `x.weight_scale` (O, G);
`x.weight_shape` (O, I). Weights are code x scale. What is not quantised (embedding, output head, norms, routers,
matrices that groups do not divide) stands in `ignore` and is float.
https://github.com/vllm-project/compressed-tensors. This module does not know how weights are rounded or multiplied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bloomery.core.errors import ConfigError, DataError
from bloomery.models.quantize import GROUP_SIZES, QuantizedWeight

KEY = "quantization_config"
METHOD = "compressed-tensors"
_WHOLE, _WORDS = "int-quantized", "pack-quantized"
_FORMATS = {8: (_WHOLE, _WORDS), 4: (_WORDS,)}
_PARTS = ("weight_packed", "weight_scale", "weight_shape")
_NAMES = ("int8", "int8-groups", "int4")
_WORD_BITS = 32
_MAX_INPUTS = 1 << 20


@dataclass(frozen=True)
class Scheme:
    """How a file's matrices are quantised. `group_size` None: one scale per output channel."""

    bits: int
    group_size: int | None = None
    rounds_activations: bool = False
    """Whether activations are meant to be rounded to 8 bits too."""
    in_words: bool = False
    """Whether codes of 8 bits lie in words of 32, as those of 4 always do."""

    @property
    def format(self) -> str:
        """The format of `packed` that computes as the file means it: native int8 rounds activations to 16 bits, and is
        the only one that has groups."""
        if self.bits == 4:
            return "int4"
        return "int8" if self.rounds_activations or self.group_size else "int8-weight-only"

    @property
    def layout(self) -> str:
        """How codes lie in a file, in the library's word."""
        return _WORDS if self.in_words or self.bits == 4 else _WHOLE

    def to_hf(self, ignore: Sequence[str]) -> dict[str, Any]:
        """The `quantization_config`; `ignore` are the published names of linear layers that are float."""
        weights = _arguments(self.bits, "channel" if self.group_size is None else "group", self.group_size)
        activations = _arguments(8, "token", None, dynamic=True) if self.rounds_activations else None
        group = {
            "targets": ["Linear"],
            "weights": weights,
            "input_activations": activations,
            "output_activations": None,
            "format": self.layout,
        }
        return {
            "quant_method": METHOD,
            "format": self.layout,
            "quantization_status": "compressed",
            "config_groups": {"group_0": group},
            "ignore": list(ignore),
            "kv_cache_scheme": None,
            "global_compression_ratio": None,
        }


def _arguments(bits: int, strategy: str, group_size: int | None, *, dynamic: bool = False) -> dict[str, Any]:
    return {
        "num_bits": bits,
        "type": "int",
        "symmetric": True,
        "strategy": strategy,
        "group_size": group_size,
        "dynamic": dynamic,
        "actorder": None,
        "block_structure": None,
        "observer": None if dynamic else "mse",
        "observer_kwargs": {},
    }


def scheme_named(name: str, group_size: int) -> Scheme:
    """ "int8": per output channel, activations rounded too; "int8-groups" and "int4": in groups, activations as they
    are. ConfigError."""
    if name not in _NAMES:
        raise ConfigError(f"weights are not quantised to {name!r:.40}", hint=f"known: {', '.join(_NAMES)}, float16")
    if name != "int8" and group_size not in GROUP_SIZES:
        raise ConfigError(
            f"groups of {group_size} inputs are not supported", hint="known: " + ", ".join(map(str, GROUP_SIZES))
        )
    if name == "int8":
        return Scheme(8, None, True)
    return Scheme(4, group_size) if name == "int4" else Scheme(8, group_size, in_words=True)


def scheme_of(document: Mapping[str, Any]) -> Scheme | None:
    """The scheme that a config.json states; None if its weights are float. ConfigError for one not read here."""
    given = document.get(KEY)
    if given is None:
        return None
    if not isinstance(given, dict) or given.get("quant_method") != METHOD:
        method = given.get("quant_method") if isinstance(given, dict) else given
        raise _unread(f"quant_method {method!r:.40}")
    groups = given.get("config_groups")
    if not isinstance(groups, dict) or len(groups) != 1:
        raise _unread("other than one config group")
    group = next(iter(groups.values()))
    weights = group.get("weights") if isinstance(group, dict) else None
    if not isinstance(weights, dict) or group.get("targets") != ["Linear"] or group.get("output_activations"):
        raise _unread("other targets than Linear, or rounded outputs")
    if given.get("kv_cache_scheme") or given.get("sparsity_config") or given.get("transform_config"):
        raise _unread("a key/value cache, sparsity or transforms of its own")
    bits, strategy, size = weights.get("num_bits"), weights.get("strategy"), weights.get("group_size")
    if (
        type(bits) is not int
        or bits not in _FORMATS
        or weights.get("type", "int") != "int"
        or weights.get("symmetric", True) is not True
    ):
        raise _unread("other than symmetric integers of 4 or 8 bits")
    if weights.get("dynamic") or weights.get("actorder") == "group":
        raise _unread("dynamic or reordered weights")
    if given.get("format") not in _FORMATS[bits]:
        raise _unread(f"format {given.get('format')!r:.40} with {bits} bits")
    if strategy == "channel":
        size = None
    elif strategy != "group" or isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= _MAX_INPUTS:
        raise _unread(f"strategy {strategy!r:.40} with group_size {size!r:.40}")
    in_words = bits == 8 and given["format"] == _WORDS
    return Scheme(bits, size, _rounds(group.get("input_activations")), in_words)


def _rounds(activations: Any) -> bool:
    if activations is None:
        return False
    asked = ("num_bits", "dynamic", "strategy")
    if not isinstance(activations, dict) or [activations.get(key) for key in asked] != [8, True, "token"]:
        raise _unread("activations rounded other than at run time, to 8 bits, token by token")
    return True


def _unread(what: str) -> ConfigError:
    return ConfigError(
        f"config.json states a quantisation that is not read: {what}",
        hint="bloomery reads compressed-tensors: symmetric int8 and int4, per channel or in groups",
    )


def to_tensors(
    base: str, weight: QuantizedWeight, scale_dtype: torch.dtype, *, in_words: bool = False
) -> dict[str, Tensor]:
    """The tensors of the layer `base` in a file; `in_words` as of a `Scheme`."""
    scale = weight.scale.to(scale_dtype).contiguous()
    if weight.bits == 8 and not in_words:
        return {f"{base}.weight": weight.codes.contiguous(), f"{base}.weight_scale": scale}
    return {
        f"{base}.weight_packed": pack_codes(weight.codes, weight.bits),
        f"{base}.weight_scale": scale,
        f"{base}.weight_shape": torch.tensor(weight.codes.shape, dtype=torch.int64),
    }


def pack_codes(codes: Tensor, bits: int) -> Tensor:
    """Codes of 4 or 8 bits, int8 (O, I) -> int32 (O, I bits / 32, rounded up)."""
    together = _WORD_BITS // bits
    shifted = codes.to(torch.int64) + (1 << (bits - 1))
    shifted = torch.nn.functional.pad(shifted, (0, -codes.size(1) % together)).unflatten(1, (-1, together))
    words = (shifted << torch.arange(0, _WORD_BITS, bits)).sum(dim=-1)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)


def unpack_codes(words: Tensor, inputs: int, bits: int) -> Tensor:
    """int32 (O, W) -> int8 (O, inputs), from the least that so many bits hold."""
    codes = (words[..., None] >> torch.arange(0, _WORD_BITS, bits, dtype=torch.int32)) & ((1 << bits) - 1)
    return (codes - (1 << (bits - 1))).to(torch.int8).flatten(1)[:, :inputs].contiguous()


@dataclass
class Reader:
    """Puts a file's tensors together: quantised layers come out as float weights, on the meta device without `floats`,
    and stay in `known` by the name of the weight. `finish` after the last tensor."""

    scheme: Scheme
    floats: bool = True
    known: dict[str, QuantizedWeight] = field(default_factory=dict)
    _waiting: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def take(self, name: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
        """What is complete with this tensor: (name, float tensor) pairs. DataError for tensors that do not fit."""
        base, _, part = name.rpartition(".")
        if part not in _PARTS and not (part == "weight" and tensor.dtype == torch.int8):
            if part in ("weight_zero_point", "weight_g_idx"):
                raise DataError(f"{name}: zero points and reordered groups are not read")
            return [(name, tensor)]
        parts = self._waiting.setdefault(base, {})
        parts[part] = tensor
        wanted = _PARTS if self.scheme.layout == _WORDS else ("weight", "weight_scale")
        if part not in wanted:
            raise DataError(f"{name}: not a tensor of {self.scheme.layout}")
        if len(parts) < len(wanted):
            return []
        del self._waiting[base]
        weight = self._put_together(base, parts)
        self.known[f"{base}.weight"] = weight
        given = weight.dequantized() if self.floats else torch.empty(weight.codes.shape, device="meta")
        return [(f"{base}.weight", given)]

    def finish(self) -> None:
        """DataError where a layer is not complete."""
        if self._waiting:
            base, parts = next(iter(self._waiting.items()))
            raise DataError(f"{base} has only {', '.join(sorted(parts))}", hint="download or copy it again")

    def _put_together(self, base: str, parts: Mapping[str, Tensor]) -> QuantizedWeight:
        scale = parts["weight_scale"]
        codes = parts["weight"] if "weight" in parts else _codes(base, parts, self.scheme.bits)
        if codes.dim() != 2 or scale.dim() != 2 or not scale.is_floating_point() or 0 in codes.shape:
            raise DataError(f"{base}: quantised weights and scales should be matrices")
        size = self.scheme.group_size or codes.size(1)
        if codes.size(1) % size or tuple(scale.shape) != (codes.size(0), codes.size(1) // size):
            raise DataError(
                f"{base}: scales {tuple(scale.shape)} do not fit codes {tuple(codes.shape)} in groups of {size}"
            )
        scale = scale.float()
        if not bool(torch.isfinite(scale).all()):
            raise DataError(f"{base}: a scale is not a number")
        return QuantizedWeight(codes.contiguous(), scale.contiguous(), self.scheme.bits)


def _codes(base: str, parts: Mapping[str, Tensor], bits: int) -> Tensor:
    words, shape = parts["weight_packed"], parts["weight_shape"]
    sizes = shape.tolist() if shape.numel() == 2 and not shape.is_floating_point() else []
    if words.dtype != torch.int32 or words.dim() != 2 or len(sizes) != 2:
        raise DataError(f"{base}: packed weights should be int32, with a shape of two numbers")
    if sizes[0] != words.size(0) or words.size(1) != -(-sizes[1] * bits // _WORD_BITS):
        raise DataError(f"{base}: {tuple(words.shape)} words do not hold {sizes[0]} x {sizes[1]} codes")
    return unpack_codes(words, sizes[1], bits)
