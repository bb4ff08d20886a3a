"""Options that every verb has, and what they open: a workspace with a progress view.

This module does not know verbs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from bloomery.core.printable import printable

if TYPE_CHECKING:
    from bloomery.core.artifact import Artifact
    from bloomery.core.events import Listener
    from bloomery.core.recipe import Recipe
    from bloomery.core.workspace import Workspace

MODEL_KINDS = ("model", "encoder", "seq2seq", "image-text", "image-encoder", "classifier")
"""Kinds of artifacts that are models."""
SET_HELP = "Override a key of a recipe: table.key=value. May be repeated; `bloomery run --keys all` lists them."
Overrides = Annotated[list[str] | None, Parameter(name="--set", negative=(), help=SET_HELP)]
RecipeFile = Annotated[Path | None, Parameter(help="A recipe (TOML) to take the configuration from.")]
Track = Annotated[
    list[str] | None,
    Parameter(
        negative=(), help="Tell the run to tensorboard, wandb or mlflow, too. May be repeated [default: the recipe's]."
    ),
]
Preflight = Annotated[
    bool, Parameter(help="Look for what would spoil the run before its first step: memory, disk, labels, gradients.")
]
Ranks = Annotated[int | None, Parameter(help="Processes that train together [default: the recipe's, 1].")]
TrainingEngine = Annotated[
    Literal["local", "ray"] | None,
    Parameter(
        name="--engine", help="Who starts them: this command, or Ray, on a cluster, too [default: the recipe's]."
    ),
]
Fresh = Annotated[bool, Parameter(negative=(), help="Do the work again even if nothing has changed.")]


@Parameter(name="*")
@dataclass(kw_only=True)
class Common:
    """The options of every verb."""

    home: Annotated[
        Path | None, Parameter(help="Folder of artifacts, runs and ledger [default: $BLOOMERY_HOME or .bloomery].")
    ] = None
    quiet: Annotated[bool, Parameter(negative=(), help="No progress; notes and errors only.")] = False
    json: Annotated[bool, Parameter(negative=(), help="Print data as JSON on stdout.")] = False

    def workspace(self) -> Workspace:
        """Open the workspace, its runs shown on stderr."""
        from bloomery.core.progress import ProgressView
        from bloomery.core.workspace import Workspace

        return Workspace(self.home, listeners=[ProgressView(quiet=self.quiet)])


def read_recipe(path: Path | None, overrides: Sequence[str] | None) -> Recipe:
    """A recipe file, or the defaults, with overrides applied."""
    from bloomery.cli.chain import SCHEMA
    from bloomery.core.recipe import load_recipe

    return load_recipe(path, SCHEMA, overrides or ())


def tracked(workspace: Workspace, settings: Recipe, sinks: Sequence[str] | None) -> Workspace:
    """The workspace, whose runs are also told to `sinks`, or to those that the recipe names."""
    workspace.listeners += trackers(settings, workspace, sinks)
    return workspace


def trackers(settings: Recipe, workspace: Workspace, sinks: Sequence[str] | None = None) -> tuple[Listener, ...]:
    """Listeners that tell `sinks`, or those that the recipe names, of runs."""
    from dataclasses import replace

    from bloomery.core.tracking import TrackConfig, open_trackers

    config = settings.table("track", TrackConfig)
    if sinks:
        config = replace(config, sinks=tuple(sinks))
    return tuple(open_trackers(config, workspace.root))


def with_ranks(overrides: Sequence[str] | None, ranks: int | None, engine: str | None) -> list[str]:
    """Overrides with the number of ranks, and with who starts them, where that was asked for."""
    asked = {"parallel.ranks": ranks, "parallel.engine": engine}
    return [*(overrides or []), *(f"{key}={value}" for key, value in asked.items() if value is not None)]


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, ensure_ascii=False))


def artifact_data(artifact: Artifact) -> dict[str, Any]:
    """What `--json` says of an artifact."""
    return {
        "name": artifact.name,
        "id": artifact.id,
        "kind": artifact.kind,
        "path": str(artifact.path),
        "seconds": artifact.manifest["seconds"],
        "energy_joules": artifact.energy_joules.to_dict(),
        "metrics": dict(artifact.metrics),
    }


def shown(text: str) -> str:
    """A stranger's text, of several lines, as it may be printed."""
    return printable(text, keep="\n\t", instead="\ufffd")


def show_artifact(artifact: Artifact, common: Common, lines: Sequence[str], *, began: float | None = None) -> None:
    """Print an artifact: JSON, or its name and path and a few lines about it. Where it was there before the command
    `began` (seconds since 1970), that is said on stderr."""
    from bloomery.core.artifact import MANIFEST

    if began is not None and (artifact.path / MANIFEST).stat().st_mtime < began:
        print(
            "nothing has changed since it was made; what stands here is of then (--fresh: do it again)", file=sys.stderr
        )
    if common.json:
        print_json(artifact_data(artifact))
        return
    print(f"{artifact.name}  {artifact.path}")
    for line in lines:
        print(f"  {line}")
