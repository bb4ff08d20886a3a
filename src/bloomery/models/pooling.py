"""Pooling: one vector for a text out of its hidden states, as sentence-transformers folders describe it.

Reimers and Gurevych, arXiv 1908.10084. This module does not know encoders or tokenizers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bloomery.core.errors import ConfigError, DataError
from bloomery.models.weights import read_json

POOLING_FILES = ("modules.json", "sentence_bert_config.json", "1_Pooling/config.json")
MODES = ("mean", "cls", "max")
_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """`mode` "mean", "cls" (the first token) or "max"; `normalize` scales vectors to length one; `max_length` is how
    many tokens of a text are read (None: as many as the encoder can). ConfigError for another mode."""

    mode: str = "mean"
    normalize: bool = True
    max_length: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"pooling {self.mode!r:.60} is not supported", hint="supported: " + ", ".join(MODES))
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
        mode, normalize = None, False
        for module in _modules(folder / "modules.json"):
            kind = str(module.get("type", "")).rpartition(".")[2]
            if kind == "Pooling":
                mode = _mode(read_json(folder / _inside(module.get("path")) / "config.json"))
            elif kind == "Normalize":
                normalize = True
            elif kind != "Transformer":
                raise ConfigError(f"modules.json has a {kind[:60]!r}, which is not supported")
        if mode is None:
            raise ConfigError("modules.json has no Pooling")
        sentence = folder / "sentence_bert_config.json"
        length = read_json(sentence).get("max_seq_length") if sentence.is_file() else None
        if length is not None and (isinstance(length, bool) or not isinstance(length, int)):
            raise ConfigError(f'"max_seq_length" should be a number, not {length!r:.40}')
        return cls(mode=mode, normalize=normalize, max_length=length)

    def __call__(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Hidden states (B, T, E) and their mask (B, T) to vectors (B, E), float32."""
        hidden, kept = hidden.float(), attention_mask[..., None].float()
        if self.mode == "cls":
            vectors = hidden[:, 0]
        elif self.mode == "max":
            vectors = hidden.masked_fill(kept == 0, -torch.inf).amax(dim=1)
        else:
            vectors = (hidden * kept).sum(dim=1) / kept.sum(dim=1).clamp_min(1e-9)
        return F.normalize(vectors, dim=-1) if self.normalize else vectors


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
    """The one mode that a 1_Pooling/config.json switches on, in either of its two forms."""
    modes = [mode for key, mode in _KEYS.items() if values.get(key)]
    if isinstance(values.get("pooling_mode"), str):
        modes = [values["pooling_mode"]]
    if len(modes) != 1:
        raise ConfigError(f"one mode of pooling is supported at a time, not {len(modes)}")
    return modes[0]
