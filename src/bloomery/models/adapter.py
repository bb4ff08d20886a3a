"""Adapter: a LoRA adapter read from PEFT's folder, in terms of a decoder's own layers.

    layer(x) = W x + scale B A x                          (Hu et al., arXiv 2106.09685)
    layer(x) = m / |W + scale B A| (W x + scale B A x)    (DoRA; Liu et al., arXiv 2402.09353; norms row by row)

An embedding is such a layer too, whose x has a one in the token's place. Published layers that hold several of ours
(queries, keys and values in one matrix) are taken apart by the rules that take the weights apart: the parts share A,
and each has its rows of B. Files are safetensors, and from anywhere: what is missing, more than expected, of another
shape or not finite is an error that names it. Shapes: R rank, I inputs, O outputs. This module does not know how
adapters are computed (see `adapted`).
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.core.errors import ConfigError, DataError
from bloomery.models.adapter_config import ALL_LINEAR, AdapterConfig
from bloomery.models.decoder import Decoder
from bloomery.models.four_bit import FourBitLinear
from bloomery.models.naming import Names, Rule
from bloomery.models.packed import PackedLinear
from bloomery.models.packing import Part
from bloomery.models.weights import read_tensors

WEIGHTS = "adapter_model.safetensors"
TEMPLATE = "chat_template.jinja"
_MAX_TEMPLATE_BYTES = 1 << 20
HEAD = "lm_head"
"""The output head's name here, tied to the embedding or not."""
_PREFIX = "base_model.model."
EMBEDDING = "model.embed_tokens"
_KEY = re.compile(r"(?P<module>[\w.]+?)\.(?P<part>lora_\w+)(?:\.(?P<kind>\w+))?")
_PARTS = {
    "lora_A": ("lora_A", ("weight",)),
    "lora_B": ("lora_B", ("weight",)),
    "lora_embedding_A": ("lora_A", (None,)),
    "lora_embedding_B": ("lora_B", (None,)),
    "lora_magnitude_vector": ("lora_magnitude_vector", (None, "weight")),
}
"""What a part is here, and how its name may end."""
_ONLY = "only LoRA on linear layers and embeddings is read; whole layers are left out by save_embedding_layers=False"
_INSIDE = ("", "model.language_model.", "language_model.model.")
_LAYERS = (nn.Linear, PackedLinear, Part, FourBitLinear)
_MAX_NAME = 200
_numbers = itertools.count(1)


@dataclass(frozen=True)
class LowRank:
    """What an adapter does to one layer: adds `up` `down` x, and with a `gain` (DoRA) that times W x, without bias."""

    down: Tensor
    """(R, I)"""
    up: Tensor
    """(O, R), the scale in it."""
    gain: Tensor | None = None
    """(O,): m / |W + scale B A| - 1."""


@dataclass(frozen=True, eq=False)
class Adapter:
    """`layers` by the names of the decoder's modules; `digest` is of all that it computes."""

    name: str
    digest: str
    layers: Mapping[str, LowRank]
    config: AdapterConfig
    chat_template: str = ""
    """What the folder says that conversations with it look like; "": as the base says."""
    number: int = field(default_factory=lambda: next(_numbers))
    """Its own, never given again in this process."""

    @property
    def rank(self) -> int:
        """The largest."""
        return max((one.down.size(0) for one in self.layers.values()), default=0)

    @property
    def nbytes(self) -> int:
        """Bytes of its matrices; parts of one layer share theirs."""
        tensors = [t for one in self.layers.values() for t in (one.down, one.up, one.gain) if t is not None]
        return sum({t.data_ptr(): t.nbytes for t in tensors}.values())

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"name": self.name, "rank": self.rank, "layers": len(self.layers), "bytes": self.nbytes}


@dataclass(frozen=True)
class PublishedLayer:
    """A linear layer as the family's files have it: which of ours it holds, and how it is taken apart."""

    ours: tuple[str, ...]
    rule: Rule | None = None

    def parts(self, tensor: Tensor) -> list[Tensor]:
        """(O, n) of theirs -> one for each of ours."""
        if self.rule is None:
            return [tensor]
        return list(self.rule.read(tensor.t() if self.rule.transposes else tensor))

    def whole(self, parts: Sequence[Tensor]) -> Tensor:
        """One for each of ours -> (O, n) of theirs."""
        if self.rule is None:
            return parts[0]
        made = self.rule.write(parts)
        return made.t() if self.rule.transposes else made


def linear_modules(decoder: Decoder) -> dict[str, nn.Module]:
    """Every layer that an adapter may change, by its name here, the embedding too; the output head is there even where
    it is the embedding, as the decoder itself."""
    found: dict[str, nn.Module] = {
        path: module
        for path, module in decoder.named_modules()
        if isinstance(module, (nn.Linear, PackedLinear, Part, FourBitLinear))
        and ".joint." not in path
        and "packed_head" not in path
    }
    return {**found, EMBEDDING: decoder.model.embed_tokens, HEAD: decoder}


def read_adapter(folder: str | Path, decoder: Decoder, name: str, *, inside: bool = False) -> Adapter:
    """A folder of adapter_config.json and adapter_model.safetensors, for a decoder. DataError for what does not fit.

    `inside`: it is the language model of a larger one, whose adapters name its layers under "language_model".
    """
    folder = Path(folder).expanduser()
    if not 0 < len(name) <= _MAX_NAME or not name.isprintable():
        raise ConfigError(f"{name!r:.60} is no name of an adapter", hint=f"1 to {_MAX_NAME} characters")
    config, path = AdapterConfig.from_folder(folder), folder / WEIGHTS
    if not path.is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        hint = "adapter_model.bin is a pickle, which is never read: save it with safe_serialization=True"
        raise DataError(f"{folder} has no {WEIGHTS}", hint=hint if pickled else "is this the folder of an adapter?")
    modules, names = linear_modules(decoder), decoder.config.names()
    published = published_layers(modules, names)
    grouped, digest = _grouped(path, published, decoder.config.family.base_prefix)
    ends = {theirs for theirs, one in published.items() if HEAD in one.ours or EMBEDDING in one.ours}
    wanted = _wanted(config, list(published), ends, _INSIDE if inside else ("",))
    _compare(path, config, wanted, grouped)
    ranks = config.ranks_and_scales(sorted(grouped))
    layers: dict[str, LowRank] = {}
    for theirs, tensors in grouped.items():
        rank, scale = ranks[theirs]
        digest.update(f"{theirs} {rank} {scale!r} {config.use_dora}".encode())
        parts = _layers(path, theirs, tensors, published[theirs], rank, config.use_dora)
        for ours, (down, up, magnitude) in zip(published[theirs].ours, parts, strict=True):
            layers[ours] = _made(f"{path}: {theirs}", decoder, modules[ours], down, up * scale, magnitude)
    return Adapter(name, digest.hexdigest(), layers, config, _template(folder))


def _template(folder: Path) -> str:
    path = folder / TEMPLATE
    if not path.is_file() or path.stat().st_size > _MAX_TEMPLATE_BYTES:
        return ""
    return path.read_bytes().decode("utf-8", errors="replace")


def _wanted(config: AdapterConfig, published: list[str], ends: set[str], prefixes: tuple[str, ...]) -> list[str]:
    """The layers that a config names, by any of the names that they have in releases of transformers."""
    found: set[str] = set()
    for prefix in prefixes:
        named = {_under(prefix, one): one for one in published}
        found.update(named[one] for one in config.targets(list(named), {_under(prefix, one) for one in ends}))
    return sorted(found)


def _under(prefix: str, name: str) -> str:
    return name if not prefix or name == HEAD else prefix + name.removeprefix("model.")


def published_layers(modules: Mapping[str, nn.Module], names: Names) -> dict[str, PublishedLayer]:
    """The layers among `modules` (ours, by name) by the names that the family's files give them."""
    found: dict[str, PublishedLayer] = {}
    taken: set[str] = set()
    for rule in names.rules:
        ours = tuple(one.removesuffix(".weight") for one in rule.ours)
        if rule.theirs.endswith(".weight") and all(one in modules for one in ours):
            found[rule.theirs.removesuffix(".weight")] = PublishedLayer(ours, rule)
            taken.update(ours)
    return {**{path: PublishedLayer((path,)) for path in modules if path not in taken}, **found}


def _grouped(
    path: Path, published: Mapping[str, PublishedLayer], base_prefix: str
) -> tuple[dict[str, dict[str, Tensor]], Any]:
    """The tensors of a file by layer and part, and the hash of their content so far."""
    grouped: dict[str, dict[str, Tensor]] = {}
    digest = hashlib.blake2b(digest_size=16)
    for key, tensor in read_tensors(path):
        found = _KEY.fullmatch(key.removeprefix(_PREFIX)) if key.startswith(_PREFIX) else None
        if found is None:
            raise DataError(f"{path}: unexpected tensor {key!r:.120}", hint=_ONLY)
        part, expected = _PARTS.get(found["part"], ("", ()))
        if found["kind"] not in expected:
            raise DataError(f"{path}: {key!r:.120} is not supported", hint=_ONLY)
        module = found["module"]
        tried = (module, base_prefix + module, f"model.{module}", module.replace("language_model.", "", 1))
        theirs = next((one for one in tried if one in published), None)
        if theirs is None:
            raise DataError(f"{path}: the model has no such layer {module!r:.120}", hint="is it of another model?")
        if not tensor.is_floating_point() or tensor.dtype.itemsize < 2:
            raise DataError(f"{path}: {key:.120} has dtype {tensor.dtype}, not a floating one")
        if tensor.dim() == 0 or part in grouped.get(theirs, {}):
            raise DataError(f"{path}: {key:.120} is a single number, or there twice")
        grouped.setdefault(theirs, {})[part] = tensor
        digest.update(f"{theirs} {part} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    if not grouped:
        raise DataError(f"{path} has no tensors")
    return grouped, digest


def _compare(path: Path, config: AdapterConfig, wanted: list[str], grouped: Mapping[str, Mapping[str, Tensor]]) -> None:
    """DataError where the layers of the file are not those that the config names."""
    more = sorted(grouped.keys() - set(wanted))
    if more:
        raise DataError(f"{path} has tensors of {more[0]!r}, which target_modules does not name")
    missing = sorted(set(wanted) - grouped.keys())
    whole = isinstance(config.target_modules, str) and config.target_modules.lower() == ALL_LINEAR
    if whole:  # experts and their routers are linear layers in some releases of transformers only
        missing = [one for one in missing if "experts." not in one and not one.endswith(".gate")]
    if missing:
        raise DataError(f"{path} has no tensors of {missing[0]!r}, which target_modules names")


def _layers(
    path: Path, theirs: str, tensors: Mapping[str, Tensor], layer: PublishedLayer, rank: int, dora: bool
) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    """A, B and DoRA's magnitudes for each of our layers that a published one holds; float32."""
    for part in ("lora_A", "lora_B", *(["lora_magnitude_vector"] if dora else [])):
        if part not in tensors:
            raise DataError(f"{path}: {theirs}.{part} is missing")
    if not dora and "lora_magnitude_vector" in tensors:
        raise DataError(f"{path}: {theirs} has magnitudes, but use_dora is not set")
    down, up = tensors["lora_A"].float().clone(), tensors["lora_B"].float()  # a copy: the file may change
    for part, shape, place in (("lora_A", down.shape, 0), ("lora_B", up.shape, 1)):
        if len(shape) != 2 or shape[place] != rank:
            raise DataError(
                f"{path}: {theirs}.{part} has shape {tuple(shape)}, adapter_config.json asks for rank {rank}"
            )
    try:
        ups = layer.parts(up)
        magnitudes: list[Tensor | None] = [None] * len(ups)
        if dora:
            magnitudes = [m[:, 0] for m in layer.parts(tensors["lora_magnitude_vector"].float().reshape(-1, 1))]
    except (RuntimeError, ValueError) as error:
        raise DataError(
            f"{path}: {theirs}.lora_B has shape {tuple(up.shape)}, which the model does not allow for"
        ) from error
    return [(down, one, magnitude) for one, magnitude in zip(ups, magnitudes, strict=True)]


def _made(
    where: str, decoder: Decoder, module: nn.Module, down: Tensor, up: Tensor, magnitude: Tensor | None
) -> LowRank:
    """On the decoder's device and in its type. DataError for shapes that are not the layer's, and numbers that are
    none."""
    outputs, inputs = size_of(module)
    if magnitude is not None and isinstance(module, nn.Embedding):
        raise DataError(f"{where}: use_dora is not supported for embeddings")
    shapes = (up.size(0), down.size(1)) if magnitude is None else (up.size(0), down.size(1), magnitude.size(0))
    expected = (outputs, inputs) if magnitude is None else (outputs, inputs, outputs)
    if shapes != expected:
        raise DataError(f"{where} maps {down.size(1)} to {up.size(0)}, the model's layer {inputs} to {outputs}")
    gain = None
    weight = decoder.model.embed_tokens.weight
    if magnitude is not None:
        with torch.inference_mode():
            base = weight_of(module).detach().float().cpu()
            ratio = magnitude / (base + up @ down).norm(dim=1)
        up, gain = up * ratio[:, None], ratio - 1
    kind = weight.dtype
    made = [None if t is None else t.to(weight.device, kind).contiguous() for t in (down, up, gain)]
    if not all(bool(t.isfinite().all()) for t in made if t is not None):
        raise DataError(f"{where} has numbers that are not finite in {str(kind).removeprefix('torch.')}")
    assert made[0] is not None and made[1] is not None
    return LowRank(made[0], made[1], made[2])


def size_of(module: nn.Module) -> tuple[int, int]:
    """(O, I) of a linear layer; a decoder stands for its output head. An embedding has a vocabulary of inputs."""
    if isinstance(module, Decoder):
        return module.config.vocab_size, module.config.hidden_size
    if isinstance(module, nn.Embedding):
        return module.embedding_dim, module.num_embeddings
    return int(module.out_features), int(module.in_features)  # type: ignore[arg-type]


def weight_of(module: nn.Module) -> Tensor:
    """(O, I) of a linear layer; a decoder stands for its output head."""
    if isinstance(module, nn.Embedding):
        return module.weight.t()
    return module.output_weight if isinstance(module, Decoder) else module.weight  # type: ignore[return-value]
