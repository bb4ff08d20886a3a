"""Rebuilding: one arm alone, tuned on train and dev or taken as it was frozen, and asked. The test stays closed.

This module does not know which arm it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bloomery.adapt.comparison.compare import opened_settings
from bloomery.adapt.comparison.entries import Entry, entries
from bloomery.adapt.comparison.passages import reading_digest
from bloomery.adapt.comparison.recipe import settings_digest
from bloomery.adapt.comparison.task import Task, read_task
from bloomery.adapt.comparison.tuning import Frozen, read_arm, tune_inputs, tuned_arm
from bloomery.core.errors import ConfigError
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.evaluate.sample import Answerer


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """An arm that is open: `answerer` works until the block ends."""

    entry: Entry
    frozen: Frozen
    answerer: Answerer
    choices: tuple[str, ...]
    """Those that every question of the task shares."""
    same: bool | None
    """Whether its settings are those that the recipe tells; None where it tells none."""


@contextmanager
def rebuilt(
    task: Task | str | Path, *, workspace: Workspace | str | Path | None = None, fresh: bool = False
) -> Iterator[Rebuilt]:
    """The one arm of a recipe. ConfigError where a task has several."""
    workspace = as_workspace(workspace)
    task = task if isinstance(task, Task) else read_task(task)
    config = task.config
    with opened_settings(config, workspace, fresh=fresh) as (split, settings, identities):
        found, _ = entries(config, settings)
        if len(found) != 1:
            listed = ", ".join(entry.name for entry in found)
            raise ConfigError(f"a recipe builds one arm, this task has {len(found)}: {listed}", hint='arms = ["..."]')
        entry = found[0]
        setting = settings[entry.model]
        digest = reading_digest(entry.arm.name, config.documents, workspace, embedder=config.embedder)
        inputs = tune_inputs(entry.arm, config, split, identities[entry.model], digest)
        frozen = read_arm(tuned_arm(entry.arm, setting, inputs, workspace, fresh=fresh))
        same = settings_digest(frozen) == config.frozen if config.frozen else None
        with entry.arm.opened(setting, frozen.settings, frozen.folder) as answerer:
            yield Rebuilt(entry=entry, frozen=frozen, answerer=answerer, choices=config.choices, same=same)
