"""LoraConfig: how low-rank adapters are made and trained, and what PEFT's adapter_config.json says of that.

This module does not know tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bloomery.core.errors import ConfigError
from bloomery.models.adapter_config import ALL_LINEAR, MAX_RANK, AdapterConfig


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Under PEFT's names."""

    r: int = 16
    """Rank."""
    lora_alpha: float = 32.0
    """What is added is scaled by alpha / r, or by alpha / sqrt(r) with rslora."""
    lora_dropout: float = 0.0
    """Share of an adapter's inputs that is zeroed in training."""
    target_modules: tuple[str, ...] = (ALL_LINEAR,)
    """Ends of layers' published names; or one of "all-linear" (all but the output head) and a regular expression that
    begins with "re:"."""
    exclude_modules: tuple[str, ...] = ()
    """Ends of the names of layers that are left out."""
    layers_to_transform: tuple[int, ...] = ()
    """Numbers of the layers that are changed; none: all."""
    rank_pattern: dict[str, int] = field(default_factory=dict)
    """Ranks of their own, by the end of a name."""
    alpha_pattern: dict[str, float] = field(default_factory=dict)
    """Alphas of their own, by the end of a name."""
    use_rslora: bool = False
    """Scale by the root of the rank (Kalajdzievski, arXiv 2312.03732)."""
    use_dora: bool = False
    """Magnitudes of their own beside the directions (Liu et al., arXiv 2402.09353)."""

    def __post_init__(self) -> None:
        if not 1 <= self.r <= MAX_RANK:
            raise ConfigError(f'"r" should be from 1 to {MAX_RANK}, not {self.r}')
        if not 0 <= self.lora_dropout < 1:
            raise ConfigError(f'"lora_dropout" should be from 0 to below 1, not {self.lora_dropout:g}')
        if not self.target_modules:
            raise ConfigError('"target_modules" names no layer', hint='target_modules = ["all-linear"]')

    def published(self) -> AdapterConfig:
        """The same as what is read of a folder."""
        targets: str | tuple[str, ...] = self.target_modules
        if len(targets) == 1 and targets[0].lower() == ALL_LINEAR:
            targets = ALL_LINEAR
        elif len(targets) == 1 and targets[0].startswith("re:"):
            targets = targets[0].removeprefix("re:")
        return AdapterConfig(
            r=self.r,
            lora_alpha=self.lora_alpha,
            target_modules=targets,
            exclude_modules=self.exclude_modules,
            layers_to_transform=self.layers_to_transform or None,
            rank_pattern=dict(self.rank_pattern),
            alpha_pattern=dict(self.alpha_pattern),
            use_rslora=self.use_rslora,
            use_dora=self.use_dora,
        )

    @classmethod
    def of(cls, config: AdapterConfig, *, lora_dropout: float = 0.0) -> LoraConfig:
        """What a folder's adapter_config.json says, to go on training with. ConfigError for layers_pattern."""
        if config.layers_pattern:
            raise ConfigError("an adapter with layers_pattern is not trained further here")
        targets = config.target_modules
        if isinstance(targets, str):
            targets = (targets,) if targets.lower() == ALL_LINEAR else (f"re:{targets}",)
        if isinstance(config.exclude_modules, str):
            raise ConfigError("an adapter that leaves layers out by a pattern is not trained further here")
        return cls(
            r=config.r,
            lora_alpha=config.lora_alpha,
            lora_dropout=lora_dropout,
            target_modules=targets,
            exclude_modules=config.exclude_modules,
            layers_to_transform=config.layers_to_transform or (),
            rank_pattern=dict(config.rank_pattern),
            alpha_pattern=dict(config.alpha_pattern),
            use_rslora=config.use_rslora,
            use_dora=config.use_dora,
        )

    def document(
        self, layers: Sequence[str], available: Sequence[str], *, base: str, task: str, saved: Sequence[str] = ()
    ) -> dict[str, Any]:
        """The adapter_config.json of an adapter of these layers among all that are `available` (published names);
        `saved` are the ends of the names of modules that are kept whole beside them, `task` is one of PEFT's types."""
        return {
            "peft_type": "LORA",
            "task_type": task,
            "base_model_name_or_path": base,
            "inference_mode": True,
            "r": self.r,
            "lora_alpha": _whole(self.lora_alpha),
            "lora_dropout": self.lora_dropout,
            "target_modules": shortest_names(layers, available),
            "rank_pattern": dict(self.rank_pattern),
            "alpha_pattern": dict(self.alpha_pattern),
            "use_rslora": self.use_rslora,
            "use_dora": self.use_dora,
            "modules_to_save": list(saved) or None,
            "bias": "none",
            "fan_in_fan_out": False,
            "init_lora_weights": True,
        }


def shortest_names(layers: Sequence[str], available: Sequence[str]) -> list[str]:
    """Names of layers as they stand in target_modules: their last parts, if those mean the same layers among all that
    are `available`, else the names in full."""
    ends = {name.rpartition(".")[2] for name in layers}
    meant = {name for name in available if name.rpartition(".")[2] in ends}
    return sorted(ends if meant == set(layers) else layers)


def _whole(number: float) -> float | int:
    return int(number) if float(number).is_integer() else number
