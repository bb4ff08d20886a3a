"""AdapterConfig: what an adapter_config.json of PEFT says of a LoRA adapter (Hu et al., arXiv 2106.09685).

Files come from anywhere: each key is known to change nothing in evaluation, is read, or is an error that names it; none
that would change the result is passed over. Which layers are meant follows PEFT: a list names the ends of layers'
names, a string is a regular expression for the whole name, "all-linear" is every linear layer but the output head. This
module does not know tensors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bloomery.core.errors import DataError
from bloomery.models.pattern_trial import matches, matches_each
from bloomery.models.weights import read_json

FILE = "adapter_config.json"
MAX_RANK = 1024
"""More is no adaptation of low rank; a file that says so is damaged, or wants memory."""
ALL_LINEAR = "all-linear"
_MAX_LAYER_KEYS = 10_000

_NEUTRAL = frozenset(
    {"auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "task_type", "peft_version"}
    | {"lora_dropout", "fan_in_fan_out", "qalora_group_size", "megatron_core", "runtime_config", "ensure_weight_tying"}
    | {"loftq_config", "eva_config", "corda_config", "lora_ga_config"}
)
"""Keys of training, of where things came from, or (fan_in_fan_out) of how the base keeps a matrix, which its family
says here."""
_INITS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Other initialisations change the weights of the base too, so that the file alone does not say what it computes."""


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """The keys that change what an adapter computes, under PEFT's names."""

    r: int = 8
    lora_alpha: float = 8
    target_modules: str | tuple[str, ...] = ()
    exclude_modules: str | tuple[str, ...] = ()
    layers_to_transform: tuple[int, ...] | None = None
    layers_pattern: tuple[str, ...] = ()
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    use_rslora: bool = False
    use_dora: bool = False

    @classmethod
    def from_folder(cls, folder: Path) -> AdapterConfig:
        """DataError, which names the key, for what is damaged or not supported."""
        if not (folder / FILE).is_file():
            raise DataError(f"{folder} holds no adapter: it has no {FILE}", hint="give the folder of a LoRA adapter")
        document = read_json(folder / FILE)
        try:
            return cls.from_peft(document)
        except DataError as error:
            raise DataError(f"{folder / FILE}: {error}", hint=error.hint) from error

    @classmethod
    def from_peft(cls, document: Mapping[str, Any]) -> AdapterConfig:
        """The same out of a document."""
        kind = document.get("peft_type")
        if kind != "LORA":
            raise DataError(f"peft_type is {kind!r:.40}", hint="only LORA adapters are read")
        init = document.get("init_lora_weights", True)
        if not isinstance(init, (str, bool, type(None))) or init not in _INITS:
            hint = "save it with path_initial_model_for_weight_conversion=, which makes a plain adapter of it"
            raise DataError(f"init_lora_weights {init!r:.40} changes the weights of the base too", hint=hint)
        if document.get("bias", "none") != "none":
            raise DataError(f"bias {document['bias']!r:.40} is not supported", hint='train with bias="none"')
        known = set(cls.__dataclass_fields__) | _NEUTRAL | {"peft_type", "init_lora_weights", "bias"}
        for key, value in document.items():
            if key not in known and value not in (None, False, [], {}, ""):
                hint = "it would change what the adapter computes"
                if key == "modules_to_save":
                    hint = "one that gives labels has a head of its own: bloomery adapt merge makes a classifier of it"
                raise DataError(f"{key!r:.60} is not supported", hint=hint)
        return cls(
            r=_rank("r", document.get("r", 8)),
            lora_alpha=_number("lora_alpha", document.get("lora_alpha", 8)),
            target_modules=_names("target_modules", document.get("target_modules"), needed=True),
            exclude_modules=_names("exclude_modules", document.get("exclude_modules")),
            layers_to_transform=_layers(document.get("layers_to_transform")),
            layers_pattern=_listed(_names("layers_pattern", document.get("layers_pattern"))),
            rank_pattern={k: _rank(f"rank_pattern.{k}", v) for k, v in _table("rank_pattern", document).items()},
            alpha_pattern={k: _number(f"alpha_pattern.{k}", v) for k, v in _table("alpha_pattern", document).items()},
            use_rslora=_flag("use_rslora", document),
            use_dora=_flag("use_dora", document),
        )

    def targets(self, layers: Sequence[str], ends: Collection[str] = ()) -> list[str]:
        """Which of a model's layers, by their published names, the adapter changes. `ends` are those of the embedding
        and of the output head, which "all-linear" leaves out."""
        if isinstance(self.target_modules, str):
            if self.target_modules.lower() == ALL_LINEAR:
                found = [name for name in layers if name not in ends]
            else:
                found = _chosen(layers, matches(self.target_modules, layers))
        else:
            found = [name for name in layers if _ends_as_one(name, self.target_modules)]
            found = self._of_layers(found)
        if isinstance(self.exclude_modules, str):
            excluded = set(_chosen(found, matches(self.exclude_modules, found)))
        else:
            excluded = {name for name in found if _ends_as_one(name, self.exclude_modules)}
        return [name for name in found if name not in excluded]

    def _of_layers(self, names: list[str]) -> list[str]:
        if self.layers_to_transform is None:
            return names
        kept = []
        for name in names:
            patterns = self.layers_pattern or (r"[^.]*",)
            found = next((m for m in (_layer_number(pattern, name) for pattern in patterns) if m is not None), None)
            if found is not None and found in self.layers_to_transform:
                kept.append(name)
        return kept

    def ranks_and_scales(self, names: Sequence[str]) -> dict[str, tuple[int, float]]:
        """(rank, scale) of each layer: alpha / r, or alpha / sqrt(r) with rsLoRA (Kalajdzievski, arXiv 2312.03732)."""
        ranks = _by_pattern(self.rank_pattern, names, self.r)
        alphas = _by_pattern(self.alpha_pattern, names, self.lora_alpha)
        over = math.sqrt if self.use_rslora else float
        return {name: (int(ranks[name]), alphas[name] / over(ranks[name])) for name in names}


def _by_pattern(patterns: Mapping[str, float], names: Sequence[str], default: float) -> dict[str, float]:
    """The value of the first pattern that is the end of a name, from a dot on."""
    found: dict[str, float] = {}
    tried = matches_each([rf"(.*\.)?({pattern})" for pattern in patterns], names) if patterns else []
    for value, which in zip(patterns.values(), tried, strict=True):
        for name in _chosen(names, which):
            found.setdefault(name, value)
    return {name: found.get(name, default) for name in names}


def _layer_number(pattern: str, name: str) -> int | None:
    """The first number that follows `pattern`; patterns are plain names (or "any")."""
    found = re.match(rf"(?:^|.*?\.){pattern}\.(?P<number>\d+)\.", name)
    return None if found is None else int(found["number"])


def _chosen(names: Sequence[str], which: Sequence[bool]) -> list[str]:
    return [name for name, chosen in zip(names, which, strict=True) if chosen]


def _ends_as_one(name: str, ends: Sequence[str]) -> bool:
    return any(name == end or name.endswith(f".{end}") for end in ends)


def _rank(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_RANK:
        raise DataError(f"{key:.80} should be a whole number from 1 to {MAX_RANK}, not {value!r:.40}")
    return value


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= 1e6:
        raise DataError(f"{key:.80} should be a number, not {value!r:.40}")
    return float(value)


def _flag(key: str, document: Mapping[str, Any]) -> bool:
    value = document.get(key, False)
    if value not in (True, False, None) or not isinstance(value, (bool, type(None))):
        raise DataError(f"{key} should be true or false, not {value!r:.40}")
    return bool(value)


def _table(key: str, document: Mapping[str, Any]) -> dict[str, Any]:
    value = document.get(key) or {}
    if not isinstance(value, dict) or len(value) > _MAX_LAYER_KEYS:
        raise DataError(f"{key} should be a table of names, not {value!r:.40}")
    return value


def _names(key: str, value: Any, *, needed: bool = False) -> str | tuple[str, ...]:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, list) and len(value) <= _MAX_LAYER_KEYS and all(isinstance(one, str) for one in value):
        if value or not needed:
            return tuple(value)
    elif value in (None, "") and not needed:
        return ()
    raise DataError(f"{key} should be a list of names, or a pattern, not {value!r:.40}")


def _listed(names: str | tuple[str, ...]) -> tuple[str, ...]:
    names = (names,) if isinstance(names, str) else names
    for name in names:
        if not re.fullmatch(r"[\w.]{1,200}", name):
            raise DataError(f"layers_pattern {name!r:.40} is not supported", hint="give plain names")
    return names


def _layers(value: Any) -> tuple[int, ...] | None:
    if value is None or value == []:
        return None
    layers = [value] if isinstance(value, int) else value
    if not isinstance(layers, list) or any(isinstance(n, bool) or not isinstance(n, int) for n in layers):
        raise DataError(f"layers_to_transform should be numbers of layers, not {value!r:.40}")
    return tuple(layers[:_MAX_LAYER_KEYS])
