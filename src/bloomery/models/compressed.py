"""Quantised weights in files, in compressed-tensors' layout, which vLLM and transformers read too.

config.json has a `quantization_config` whose quant_method is "compressed-tensors"; readers that do not know it stop
there. 8 bits ("int-quantized"): `x.weight` int8 (O, I) and `x.weight_scale` (O, 1), activations rounded at run time,
token by token. 4 bits ("pack-quantized"): `x.weight_packed` int32 (O, I / 8), the first code in the lowest four bits,
each plus eight; `x.weight_scale` (O, G); `x.weight_shape` (O, I). Weights are code x scale. What is not quantised
(embedding, output head, norms, routers, matrices that groups do not divide) stands in `ignore` and is float.
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
_FORMATS = {8: "int-quantized", 4: "pack-quantized"}
_PARTS = ("weight_packed", "weight_scale", "weight_shape")
_CODES_A_WORD = 8
_MAX_INPUTS = 1 << 20


@dataclass(frozen=True)
class Scheme:
    """How a file's matrices are quantised. `group_size` None: one scale per output channel."""

    bits: int
    group_size: int | None = None
    rounds_activations: bool = False
    """Whether activations are meant to be rounded to 8 bits too."""

    @property
    def format(self) -> str:
        """The format of `packed` that computes as the file means it."""
        return "int4" if self.bits == 4 else "int8" if self.rounds_activations else "int8-weight-only"

    def to_hf(self, ignore: Sequence[str]) -> dict[str, Any]:
        """The `quantization_config`; `ignore` are the published names of linear layers that are float."""
        weights = _arguments(self.bits, "channel" if self.group_size is None else "group", self.group_size)
        activations = _arguments(8, "token", None, dynamic=True) if self.rounds_activations else None
        group = {
            "targets": ["Linear"],
            "weights": weights,
            "input_activations": activations,
            "output_activations": None,
            "format": _FORMATS[self.bits],
        }
        return {
            "quant_method": METHOD,
            "format": _FORMATS[self.bits],
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
    """ "int8": per output channel, activations rounded too; "int4": in groups, activations as they are. ConfigError."""
    if name not in ("int8", "int4"):
        raise ConfigError(f"weights are not quantised to {name!r:.40}", hint="known: int8, int4, float16")
    if name == "int4" and group_size not in GROUP_SIZES:
        raise ConfigError(
            f"groups of {group_size} inputs are not supported", hint="known: " + ", ".join(map(str, GROUP_SIZES))
        )
    return Scheme(8, None, True) if name == "int8" else Scheme(4, group_size)


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
    if given.get("format") != _FORMATS[bits]:
        raise _unread(f"format {given.get('format')!r:.40} with {bits} bits")
    if strategy == "channel":
        size = None
    elif strategy != "group" or isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= _MAX_INPUTS:
        raise _unread(f"strategy {strategy!r:.40} with group_size {size!r:.40}")
    return Scheme(bits, size, _rounds(group.get("input_activations")))


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
        hint="bloomery reads compressed-tensors: symmetric int8 per channel and int4 in groups",
    )


def to_tensors(base: str, weight: QuantizedWeight, scale_dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors of the layer `base` in a file."""
    scale = weight.scale.to(scale_dtype).contiguous()
    if weight.bits == 8:
        return {f"{base}.weight": weight.codes.contiguous(), f"{base}.weight_scale": scale}
    return {
        f"{base}.weight_packed": pack_codes(weight.codes),
        f"{base}.weight_scale": scale,
        f"{base}.weight_shape": torch.tensor(weight.codes.shape, dtype=torch.int64),
    }


def pack_codes(codes: Tensor) -> Tensor:
    """4-bit codes int8 (O, I) -> int32 (O, I / 8, rounded up)."""
    rest = -codes.size(1) % _CODES_A_WORD
    shifted = torch.nn.functional.pad(codes.to(torch.int64) + 8, (0, rest)).unflatten(1, (-1, _CODES_A_WORD))
    words = (shifted << torch.arange(0, 32, 4)).sum(dim=-1)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)


def unpack_codes(words: Tensor, inputs: int) -> Tensor:
    """int32 (O, W) -> int8 (O, inputs) from -8 to 7."""
    codes = (words[..., None] >> torch.arange(0, 32, 4, dtype=torch.int32)) & 15
    return (codes.to(torch.int8) - 8).flatten(1)[:, :inputs].contiguous()


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
        wanted = _PARTS if self.scheme.bits == 4 else ("weight", "weight_scale")
        if part not in wanted:
            raise DataError(f"{name}: not a tensor of {_FORMATS[self.scheme.bits]}")
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
        codes = parts["weight"] if self.scheme.bits == 8 else _codes(base, parts)
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


def _codes(base: str, parts: Mapping[str, Tensor]) -> Tensor:
    words, shape = parts["weight_packed"], parts["weight_shape"]
    sizes = shape.tolist() if shape.numel() == 2 and not shape.is_floating_point() else []
    if words.dtype != torch.int32 or words.dim() != 2 or len(sizes) != 2:
        raise DataError(f"{base}: packed weights should be int32, with a shape of two numbers")
    if sizes[0] != words.size(0) or words.size(1) != -(-sizes[1] // _CODES_A_WORD):
        raise DataError(f"{base}: {tuple(words.shape)} words do not hold {sizes[0]} x {sizes[1]} codes")
    return unpack_codes(words, sizes[1])
