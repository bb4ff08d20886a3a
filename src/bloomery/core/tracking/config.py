"""TrackConfig: to whom a run's events are told. Nothing of it changes what a run makes, so it is in no stage's key.

This module does not know how any of them is told.
"""

from __future__ import annotations

from dataclasses import dataclass

from bloomery.core.errors import ConfigError, nearest

SINKS = ("tensorboard", "wandb", "mlflow")


@dataclass(frozen=True, kw_only=True)
class TrackConfig:
    """To whom a run's events are told, beside its own `events.jsonl`."""

    sinks: tuple[str, ...] = ()
    """tensorboard, wandb, mlflow; each needs its extra."""
    folder: str = ""
    """Where they write; empty: `tracking` in the workspace. wandb follows WANDB_MODE, mlflow MLFLOW_TRACKING_URI."""
    project: str = "bloomery"
    """Project of Weights & Biases, experiment of MLflow."""

    def __post_init__(self) -> None:
        for name in self.sinks:
            if name not in SINKS:
                raise ConfigError(f'"track.sinks" cannot have {name!r:.40}', hint=nearest(name, SINKS))
