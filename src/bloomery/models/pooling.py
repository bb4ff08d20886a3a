"""Pooling: one vector for a text out of its hidden states, as sentence-transformers folders describe it.

Reimers and Gurevych, arXiv 1908.10084; Muennighoff, arXiv 2202.08904 (weighted mean). Shapes: B texts, T tokens, E
hidden_size. This module does not know encoders or tokenizers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bloomery.core.errors import ConfigError, DataError
from bloomery.models.weights import read_json

MODES = ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
# In the order in which older folders that switch on several of them have the parts of a vector.
_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ACTIVATIONS = {"Tanh": torch.tanh, "Identity": lambda x: x, "ReLU": F.relu, "GELU": F.gelu, "Sigmoid": torch.sigmoid}
_DESCRIBED = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
_ONLY: dict[str, tuple[Any, ...]] = {
    "module_input_name": ("sentence_embedding",),
    "module_output_name": ("sentence_embedding",),
    "use_residual": (False,),
}


@dataclass(frozen=True, eq=False)
class Dense:
    """A linear layer on the vector (E_in to E_out), with an activation by the name of its torch class."""

    weight: Tensor
    bias: Tensor | None
    activation: str

    def __call__(self, vectors: Tensor) -> Tensor:
        """(B, E_in) -> (B, E_out)."""
        bias = None if self.bias is None else self.bias.to(vectors.device)
        return _ACTIVATIONS[self.activation](F.linear(vectors, self.weight.to(vectors.device), bias))


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """How hidden states become a vector. `mode` is one of MODES ("cls" is the first token), or several with "+"
    between them, one after the other in the vector; then come the layers of `dense`, and `normalize` scales to length
    one. `max_length` is how many tokens of a text are read (None: as many as the encoder can), `lower_case` whether it
    is read in small letters. ConfigError for another mode."""

    mode: str = "mean"
    normalize: bool = True
    max_length: int | None = None
    lower_case: bool = False
    dense: tuple[Dense, ...] = ()

    def __post_init__(self) -> None:
        if odd := [mode for mode in self.mode.split("+") if mode not in MODES]:
            raise ConfigError(f"pooling {odd[0]!r:.60} is not supported", hint="supported: " + ", ".join(MODES))
        if self.max_length is not None and self.max_length < 2:
            raise ConfigError(f'"max_length" should be at least 2, not {self.max_length}')

    @classmethod
    def from_folder(cls, folder: str | Path) -> Pooling | None:
        """What modules.json and the folders that it names say; None for a folder without a modules.json.

        Raises ConfigError for a module that would change the vector and is not known, DataError for damage.
        """
        folder = Path(folder)
        if not (folder / "modules.json").is_file():
            return None
        mode, normalize, dense = None, False, []
        for module in _modules(folder / "modules.json"):
            kind = str(module.get("type", "")).rpartition(".")[2]
            if normalize or (mode is None) is (kind in ("Dense", "Normalize")):
                raise ConfigError(f"modules.json has a {kind[:60]!r} where none is supported")
            if kind == "Pooling":
                mode = _mode(read_json(folder / _inside(module.get("path")) / "config.json"))
            elif kind == "Normalize":
                normalize = True
            elif kind == "Dense":
                dense.append(_dense(folder / _inside(module.get("path"))))
            elif kind != "Transformer":
                raise ConfigError(f"modules.json has a {kind[:60]!r}, which is not supported")
        if mode is None:
            raise ConfigError("modules.json has no Pooling")
        length, lower_case = _sentences(folder)
        return cls(mode=mode, normalize=normalize, max_length=length, lower_case=lower_case, dense=tuple(dense))

    def size(self, hidden_size: int) -> int:
        """Numbers of a vector, for hidden states of this width."""
        return self.dense[-1].weight.size(0) if self.dense else hidden_size * len(self.mode.split("+"))

    def __call__(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Hidden states (B, T, E) and their mask (B, T), padding behind, to vectors (B, `size`(E)), float32."""
        hidden = hidden.float()
        vectors = torch.cat([_pooled(mode, hidden, attention_mask) for mode in self.mode.split("+")], dim=-1)
        for layer in self.dense:
            vectors = layer(vectors)
        return F.normalize(vectors, dim=-1) if self.normalize else vectors


def pooling_files(folder: str | Path) -> list[str]:
    """The files of a folder that say how its vectors are made, its modules' own among them; [] if none does."""
    folder = Path(folder)
    if not (folder / "modules.json").is_file():
        return []
    paths = [module.get("path") for module in _modules(folder / "modules.json")]
    names = [*_DESCRIBED, *(f"{_inside(p)}/{name}" for p in paths if p for name in ("config.json", _WEIGHTS))]
    return [name for name in names if (folder / name).is_file()]


_WEIGHTS = "model.safetensors"


def _pooled(mode: str, hidden: Tensor, attention_mask: Tensor) -> Tensor:
    kept = attention_mask[..., None].to(hidden.dtype)
    if mode == "cls":
        return hidden[:, 0]
    if mode == "max":
        return hidden.masked_fill(kept == 0, -torch.inf).amax(dim=1)
    if mode == "lasttoken":
        last = attention_mask.sum(dim=1).clamp_min(1) - 1
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    if mode == "weightedmean":  # a token's weight is its place
        kept = kept * torch.arange(1, hidden.size(1) + 1, device=hidden.device, dtype=hidden.dtype)[None, :, None]
    total = kept.sum(dim=1).clamp_min(1e-9)
    return (hidden * kept).sum(dim=1) / (total.sqrt() if mode == "mean_sqrt_len_tokens" else total)


def _dense(folder: Path) -> Dense:
    values = read_json(folder / "config.json")
    for key, allowed in _ONLY.items():
        if values.get(key) is not None and values[key] not in allowed:
            raise ConfigError(f'{folder.name}: "{key}" = {values[key]!r:.60} is not supported')
    name = str(values.get("activation_function", "torch.nn.modules.activation.Tanh"))
    kind = name.rpartition(".")[2]
    if not re.fullmatch(r"torch\.nn\.[a-z.]*[A-Za-z]+", name) or kind not in _ACTIVATIONS:
        raise ConfigError(f"{folder.name}: activation {name!r:.80} is not supported")
    try:
        tensors = load_file(folder / _WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{folder / _WEIGHTS} cannot be read: {error}", hint="safetensors only") from None
    weight, bias = tensors.get("linear.weight"), tensors.get("linear.bias")
    shape = (values.get("out_features"), values.get("in_features"))
    if weight is None or tuple(weight.shape) != shape or (bias is None) is bool(values.get("bias", True)):
        raise DataError(f"{folder / _WEIGHTS} does not hold what its config.json says")
    return Dense(weight.float(), None if bias is None else bias.float(), kind)


def _sentences(folder: Path) -> tuple[int | None, bool]:
    """(tokens that are read of a text, whether it is read in small letters). ConfigError for a prompt before it."""
    described = folder / "config_sentence_transformers.json"
    if described.is_file() and (prompt := read_json(described).get("default_prompt_name")) is not None:
        raise ConfigError(f'"default_prompt_name" = {prompt!r:.60} is not supported', hint="texts are read as they are")
    sentence = folder / "sentence_bert_config.json"
    values: Mapping[str, Any] = read_json(sentence) if sentence.is_file() else {}
    length = values.get("max_seq_length")
    if length is not None and (isinstance(length, bool) or not isinstance(length, int)):
        raise ConfigError(f'"max_seq_length" should be a number, not {length!r:.40}')
    return length, values.get("do_lower_case") is True


def _modules(path: Path) -> list[dict[str, Any]]:
    import json

    try:
        modules = json.loads(path.read_bytes()[: 1 << 20])
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise DataError(f"{path} should hold a list of modules")
    return modules


def _inside(name: object) -> str:
    """A folder's name that stays inside its parent; DataError for another."""
    if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name:
        raise DataError(f"modules.json names {name!r:.80}, which is no folder of this one")
    return name


def _mode(values: dict[str, Any]) -> str:
    """The modes that a 1_Pooling/config.json switches on, in either of its two forms."""
    named = values.get("pooling_mode")
    if isinstance(named, str):
        named = [named]
    modes = named if isinstance(named, list) else [mode for key, mode in _KEYS.items() if values.get(key)]
    if not modes:
        raise ConfigError("a Pooling has no mode")
    return "+".join(str(mode) for mode in modes)
