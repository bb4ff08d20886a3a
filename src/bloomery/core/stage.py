"""Stage inputs: what a stage's result depends on, as one key.

Two runs with equal keys would make the same thing, so the second is not run: the ledger knows the artifact.
This module does not know what stages there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bloomery import __version__
from bloomery.core.config import digest
from bloomery.core.errors import ConfigError

if TYPE_CHECKING:
    from bloomery.core.artifact import Artifact
    from bloomery.core.ledger import Ledger
    from bloomery.core.workspace import Workspace

_SEEDS = 1 << 63


@dataclass(frozen=True, kw_only=True)
class StageInputs:
    """Everything that decides a stage's result.

    `config` is plain data (see `config.to_dict`); `parents` are artifact ids; `fingerprint` stands for inputs
    that are not artifacts (source files, package versions); `version` is raised by a stage whose code changes
    what it makes. ConfigError for a seed that is too large for a ledger.
    """

    stage: str
    config: Mapping[str, Any]
    parents: Sequence[str] = ()
    fingerprint: str = ""
    seed: int = 0
    version: int = 1
    bloomery: str = field(default=__version__)

    def __post_init__(self) -> None:
        if not -_SEEDS <= self.seed < _SEEDS:
            raise ConfigError(f"a seed has 64 bits, {self.seed!r:.60} more", hint="seed=0")

    @cached_property
    def key(self) -> str:
        """64 hex digits."""
        return digest(
            {
                "stage": self.stage,
                "config": dict(self.config),
                "parents": list(self.parents),
                "fingerprint": self.fingerprint,
                "seed": self.seed,
                "version": self.version,
                "bloomery": self.bloomery,
            }
        )


def reusable(workspace: Workspace, inputs: StageInputs) -> Artifact | None:
    """The sound artifact that an earlier run with the same key published, or None."""
    identity = workspace.ledger.output(inputs.key)
    return workspace.published(identity) if identity else None


def why_run(ledger: Ledger, inputs: StageInputs) -> str:
    """Why a stage whose artifact cannot be reused would run, in words for `--dry-run`."""
    if ledger.output(inputs.key):
        return "its artifact is gone or damaged"
    attempts = ledger.attempts(inputs.key)
    if attempts:
        return "an earlier attempt did not finish; it goes on from there"
    previous = ledger.runs(stage=inputs.stage, limit=1)
    if not previous:
        return "it has never run"
    changes = _differences(previous[0]["config"], inputs.config)
    if changes:
        return "changed: " + ", ".join(changes)
    before = ledger.run(previous[0]["id"])["inputs"]
    if list(before) != list(inputs.parents):
        return "an artifact that it reads has changed"
    return "its sources, seed or the version of bloomery have changed"


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    keys = sorted(old.keys() | new.keys())
    return [f"{k} {old.get(k)!r:.40} -> {new.get(k)!r:.40}" for k in keys if old.get(k) != new.get(k)]
