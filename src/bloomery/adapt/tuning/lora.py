"""LoRA layers to train: low-rank additions to a model's linear layers and embedding, several by name.

    layer(x) = W x + scale B A dropout(x)                 (Hu et al., arXiv 2106.09685)
    layer(x) = m / |W + scale B A| (W x + scale B A x)    (DoRA; Liu et al., arXiv 2402.09353; the norm is a constant to
                                                          the gradient, as its section 4.3 has it)

They are put on by hooks, so that names, files and layouts of the base stay as they are, and kept in the family's
published layout: where that has queries, keys and values in one matrix they share A, as in PEFT, whose initial values
these are (A Kaiming-uniform, B zero; of an embedding A zero, B normal). The base is frozen; a classifier's head is
trained whole. Shapes: R rank, I inputs, O outputs. This module does not know files, losses or data.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bloomery.adapt.tuning.lora_config import LoraConfig
from bloomery.core.errors import ConfigError, nearest
from bloomery.models.adapter import EMBEDDING, HEAD, PublishedLayer, linear_modules, published_layers, size_of
from bloomery.models.adapter import weight_of as decoder_weight_of
from bloomery.models.decoder import Decoder
from bloomery.models.decoder_classifier import DecoderClassifier
from bloomery.models.encoder import Encoder
from bloomery.models.four_bit import FourBitLinear
from bloomery.models.naming import Names

_HOLDER = "lora"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WITHIN = "decoder."
_EXPERTS = re.compile(r"\.experts\.\d|\.mlp\.gate$|block_sparse_moe\.gate$")


@dataclass(frozen=True)
class Layout:
    """What of a model can be adapted: `modules` by our names, `layers` by published ones, `ends` of the latter that
    "all-linear" leaves out, and `heads`, prefixes of our parameters that are trained whole; `available` are the names
    of all linear layers, heads too."""

    modules: dict[str, nn.Module]
    layers: dict[str, PublishedLayer]
    available: tuple[str, ...]
    ends: frozenset[str]
    heads: tuple[str, ...]
    names: Names
    task: str


def layout_of(model: nn.Module) -> Layout:
    """Of a decoder, a decoder that gives labels, or an encoder. ConfigError for another model."""
    heads: tuple[str, ...] = ()
    modules: dict[str, nn.Module]
    if isinstance(model, Decoder):
        modules, names, task = linear_modules(model), model.config.names(), "CAUSAL_LM"
        ends = {HEAD, EMBEDDING}
    elif isinstance(model, DecoderClassifier):
        found = linear_modules(model.decoder)
        modules = {f"{_WITHIN}{path}": module for path, module in found.items() if path != HEAD}
        names, task, heads = model.names(), "SEQ_CLS", ("classifier.",)
        ends = {f"{_WITHIN}{EMBEDDING}"}
    elif isinstance(model, Encoder):
        linear = (nn.Linear, FourBitLinear)
        modules = {path: module for path, module in model.named_modules() if isinstance(module, linear)}
        heads = () if model.config.head == "masked" else ("head.", "classifier.")
        names, ends = model.config.names(), set[str]()
        task = {"sequence": "SEQ_CLS", "token": "TOKEN_CLS"}.get(str(model.config.head), "FEATURE_EXTRACTION")
    else:
        raise ConfigError(f"a {type(model).__name__} takes no adapter", hint="decoders and encoders do")
    layers = published_layers(modules, names)
    # Released transformers keep experts in one tensor, which is no layer: an adapter of them would fit nowhere else.
    layers = {theirs: one for theirs, one in layers.items() if not _EXPERTS.search(theirs)}
    available = tuple(layers)
    layers = {theirs: one for theirs, one in layers.items() if not f"{one.ours[0]}.".startswith(heads)}
    outer = frozenset(theirs for theirs, one in layers.items() if ends.intersection(one.ours))
    return Layout(modules, layers, available, outer, heads, names, task)


class LoraLayer(nn.Module):
    """What is added to one published layer, which may be several of ours. `embeds`: its inputs are token ids."""

    def __init__(
        self, layer: PublishedLayer, modules: Sequence[nn.Module], rank: int, scale: float, config: LoraConfig
    ) -> None:
        super().__init__()
        self.layer, self.rank, self.scale, self.share = layer, rank, scale, config.lora_dropout
        self.embeds = isinstance(modules[0], nn.Embedding)
        sizes = [size_of(module) for module in modules]
        inputs, outputs = sizes[0][1], sum(out for out, _ in sizes)
        device = _device(modules[0])
        self.lora_A = nn.Parameter(torch.empty(rank, inputs, device=device))
        self.lora_B = nn.Parameter(torch.empty(outputs, rank, device=device))
        if self.embeds:
            nn.init.zeros_(self.lora_A)
            nn.init.normal_(self.lora_B)
        else:
            nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
            nn.init.zeros_(self.lora_B)
        self.lora_magnitude_vector: nn.Parameter | None = None
        if config.use_dora:
            if self.embeds:
                raise ConfigError("use_dora is not supported for embeddings", hint="leave the embedding out")
            norms = [weight_of(module).detach().float().norm(dim=1) for module in modules]
            self.lora_magnitude_vector = nn.Parameter(layer.whole([n[:, None] for n in norms])[:, 0].contiguous())

    def up(self, part: int) -> Tensor:
        """(O, R): B of one of our layers, without the scale."""
        return self.layer.parts(self.lora_B)[part]

    def magnitude(self, part: int) -> Tensor:
        """(O,): DoRA's of one of our layers."""
        assert self.lora_magnitude_vector is not None
        return self.layer.parts(self.lora_magnitude_vector[:, None])[part][:, 0]

    def onto(self, whole: Tensor, part: int, module: nn.Module, x: Tensor, out: Tensor) -> Tensor:
        """`whole` with what comes on top of `out`, which one of our layers made of x."""
        if self.embeds:
            inner = F.embedding(x, self.lora_A.t())
            return whole + (F.linear(inner, self.up(part)) * self.scale).to(whole.dtype)
        x = x.to(self.lora_A.dtype)
        drops = self.training and self.share > 0
        dropped = F.dropout(x, self.share) if drops else x
        low, up = F.linear(dropped, self.lora_A), self.up(part)
        if self.lora_magnitude_vector is None and low.dtype == whole.dtype:
            # In one product: (N, O) is neither scaled nor added to on its own.
            return torch.addmm(whole.flatten(0, -2), low.flatten(0, -2), up.t(), alpha=self.scale).view_as(whole)
        low = F.linear(low, up) * self.scale
        if self.lora_magnitude_vector is not None:
            low = self._weighed(low, part, module, dropped, out)
        return whole + low.to(whole.dtype)

    def _weighed(self, low: Tensor, part: int, module: nn.Module, x: Tensor, out: Tensor) -> Tensor:
        """What DoRA adds to `out`; `x` is what dropout left."""
        assert self.lora_magnitude_vector is not None
        drops = self.training and self.share > 0
        weight = weight_of(module).detach()
        with torch.no_grad():
            norm = (weight.float() + self.scale * (self.up(part) @ self.lora_A)).norm(dim=1)
        ratio = self.magnitude(part) / norm
        bias = getattr(module, "bias", None)
        base = F.linear(x, weight.to(x.dtype)) if drops else out if bias is None else out - bias
        return (ratio - 1) * base + ratio * low

    @torch.no_grad()
    def merged(self, part: int, module: nn.Module) -> Tensor:
        """(O, I) of one of our layers with the addition in it, computed in float32, in the layer's type."""
        weight = weight_of(module)
        made = weight.float() + self.scale * (self.up(part).float() @ self.lora_A.float())
        if self.lora_magnitude_vector is not None:
            made = made * (self.magnitude(part).float() / made.norm(dim=1))[:, None]
        return made.to(weight.dtype)


class LoraSets(nn.Module):
    """The adapters of a model by name, and which of them are computed now. Held by the model as `lora`."""

    def __init__(self) -> None:
        super().__init__()
        self.sets = nn.ModuleDict()
        self.configs: dict[str, LoraConfig] = {}
        self.active: tuple[str, ...] = ()
        self.merged: tuple[str, ...] = ()
        self.hooked: set[str] = set()
        self.handles: list[Callable[[], None]] = []
        self.kept: dict[str, nn.Parameter] = {}
        self._computed: dict[tuple[tuple[str, ...], str], list[tuple[LoraLayer, int]]] = {}

    def layers(self, name: str) -> dict[str, LoraLayer]:
        """By published name. ConfigError for a name that there is not."""
        if name not in self.sets:
            raise ConfigError(f"the model has no adapter {name!r:.60}", hint=nearest(name, self.sets.keys()))
        found = cast(nn.ModuleDict, self.sets[name])
        return {key.replace("/", "."): cast(LoraLayer, layer) for key, layer in found.items()}

    def computed(self, path: str) -> list[tuple[LoraLayer, int]]:
        """The active layers that change one of ours, and which part of them it is; found once, for it is asked at every
        step."""
        key = self.active, path
        if key not in self._computed:
            layers = [layer for name in self.active for layer in self.layers(name).values()]
            self._computed[key] = [(one, one.layer.ours.index(path)) for one in layers if path in one.layer.ours]
        return self._computed[key]


def add_lora(model: nn.Module, config: LoraConfig, *, name: str = "default") -> list[nn.Parameter]:
    """Put a new adapter on a decoder, a decoder that gives labels, or an encoder; returns what is to be trained.

    Everything else is frozen, a classifier's head excepted. The new one alone is active (see `use`). Initial values are
    drawn from PyTorch's generator. ConfigError for layers that there are not, and for a name that is taken.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r:.60} is no name of an adapter", hint="letters, digits, - and _")
    layout = layout_of(model)
    held = sets_of(model) or LoraSets()
    if name in held.sets:
        raise ConfigError(f"the model has an adapter {name!r} already")
    if held.merged:
        raise ConfigError(f"{', '.join(held.merged)} is merged into the weights", hint="unmerge it first")
    chosen = _chosen(config, layout)
    ranks = config.published().ranks_and_scales(chosen)
    made = nn.ModuleDict()
    for theirs in chosen:
        layer = layout.layers[theirs]
        made[theirs.replace(".", "/")] = LoraLayer(
            layer, [layout.modules[one] for one in layer.ours], *ranks[theirs], config
        )
    model.requires_grad_(False)
    if not hasattr(model, _HOLDER):
        model.add_module(_HOLDER, held)
    held.sets[name], held.configs[name] = made.train(model.training), config
    held.requires_grad_(False)
    made.requires_grad_(True)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.startswith(layout.heads):
            parameter.requires_grad_(True)
    _hook(model, layout, held)
    held.active = (name,)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def sets_of(model: nn.Module) -> LoraSets | None:
    """The adapters on a model, or None."""
    held = getattr(model, _HOLDER, None)
    return held if isinstance(held, LoraSets) else None


def use(model: nn.Module, *names: str) -> None:
    """Compute with these adapters, whose additions are summed; with none, as the base. ConfigError for other names."""
    held = _held(model)
    for name in names:
        held.layers(name)
    if held.merged:
        raise ConfigError(f"{', '.join(held.merged)} is merged into the weights", hint="unmerge it first")
    held.active = tuple(dict.fromkeys(names))


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Write the active adapters into the weights, so that no step costs more; `unmerge` brings back the very same
    weights. ConfigError where one is merged, for weights in four bits, and for a head that is the embedding."""
    held, layout = _held(model), layout_of(model)
    if held.merged:
        raise ConfigError(f"{', '.join(held.merged)} is merged already", hint="unmerge it first")
    changes: dict[str, Tensor] = {}
    for path, module in layout.modules.items():
        for layer, part in held.computed(path):
            plain = module.lm_head if isinstance(module, Decoder) else module
            tied = path.removeprefix(_WITHIN) in (HEAD, EMBEDDING) and _is_tied(model)
            if plain is None or (tied and isinstance(model, Decoder)):
                raise ConfigError("the output head is the embedding: a merge into one would change the other too")
            if type(plain) not in (nn.Linear, nn.Embedding):
                raise ConfigError("packed weights take no adapter in", hint="load the model in plain weights")
            if path in changes:
                if layer.lora_magnitude_vector is not None:
                    raise ConfigError("DoRA adapters are merged one at a time")
                changes[path] += layer.merged(part, module) - weight_of(module)
            else:
                changes[path] = layer.merged(part, module)
    for path, made in changes.items():
        module = _plain(layout.modules[path])
        held.kept[path] = cast(nn.Parameter, module.weight)
        if isinstance(module, nn.Embedding):
            made = made.t().contiguous()
        module.weight = nn.Parameter(made, requires_grad=False)
    held.merged, held.active = held.active, ()


def unmerge(model: nn.Module) -> None:
    """The weights are those of before, the very same, and the adapters active again. ConfigError if none is merged."""
    held, layout = _held(model), layout_of(model)
    if not held.merged:
        raise ConfigError("no adapter is merged")
    for path, weight in held.kept.items():
        _plain(layout.modules[path]).weight = weight
    held.active, held.merged, held.kept = held.merged, (), {}


def remove_lora(model: nn.Module) -> None:
    """Take all adapters off: what is merged stays in the weights, and the model is as if it had never had any."""
    held = _held(model)
    for undo in held.handles:
        undo()
    delattr(model, _HOLDER)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def weight_of(module: nn.Module) -> Tensor:
    """(O, I) of a layer of ours; a decoder stands for its output head."""
    return decoder_weight_of(module)


def _chosen(config: LoraConfig, layout: Layout) -> list[str]:
    published = config.published()
    chosen = published.targets(list(layout.layers), layout.ends)
    if not chosen:
        ends = {one.rpartition(".")[2] for one in layout.layers}
        raise ConfigError(
            f"target_modules {', '.join(config.target_modules)!r:.80} names no layer of this model",
            hint="it has " + ", ".join(sorted(ends)),
        )
    return chosen


def _hook(model: nn.Module, layout: Layout, held: LoraSets) -> None:
    for path, module in layout.modules.items():
        if path in held.hooked:
            continue
        held.hooked.add(path)

        def add(args: tuple[Tensor, ...], out: Tensor, path: str = path, module: nn.Module = module) -> Tensor:
            whole = out
            for layer, part in held.computed(path):
                whole = layer.onto(whole, part, module, args[0], out)
            return whole

        if isinstance(module, Decoder):
            if module.on_logits is not None:
                raise ConfigError("an engine computes with this model: load it anew to train it")
            module.on_logits = lambda hidden, logits, add=add: add((hidden,), logits)
            held.handles.append(lambda module=module: setattr(module, "on_logits", None))
        else:
            handle = module.register_forward_hook(lambda _, args, out, add=add: add(args, out))
            held.handles.append(handle.remove)


def _held(model: nn.Module) -> LoraSets:
    held = sets_of(model)
    if held is None:
        raise ConfigError("the model has no adapter", hint="add_lora(model, LoraConfig())")
    return held


def _is_tied(model: nn.Module) -> bool:
    return isinstance(model, Decoder) and model.lm_head is None


def _plain(module: nn.Module) -> nn.Linear | nn.Embedding:
    return cast("nn.Linear | nn.Embedding", module.lm_head if isinstance(module, Decoder) else module)


def _device(module: nn.Module) -> torch.device:
    if isinstance(module, FourBitLinear):
        return module.codes.device
    return next(module.parameters()).device
