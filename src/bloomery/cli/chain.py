"""The chain: a recipe's stages in order, each run only if what it depends on has changed, like make.

    curate -> tokenizer -> tokenize -> pretrain -> measure

`explain` says what `execute` would do and why, without doing it. This module loads every floor, so it is imported
inside commands only. It does not know how a stage works, nor the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bloomery.adapt.distillation.config import DistilConfig
from bloomery.adapt.domain.config import DomainConfig
from bloomery.adapt.heads.config import HeadsConfig
from bloomery.adapt.preference.config import PreferenceConfig
from bloomery.adapt.reinforcement.config import ReinforceConfig
from bloomery.adapt.tuning.config import AdaptConfig
from bloomery.core.artifact import Artifact
from bloomery.core.errors import ConfigError, nearest
from bloomery.core.recipe import Recipe
from bloomery.core.stage import StageInputs, reusable, why_run
from bloomery.core.tracking import TrackConfig
from bloomery.core.workspace import Workspace
from bloomery.corpus import CurateConfig, PicturesConfig, curate, curate_inputs
from bloomery.energy import EnergyConfig
from bloomery.evaluate import MeasureConfig, measure, measure_inputs
from bloomery.server import ServeConfig
from bloomery.tokenizer import (
    TokenizeConfig,
    TokenizerConfig,
    tokenize,
    tokenize_inputs,
    train_tokenizer,
    train_tokenizer_inputs,
)
from bloomery.tokenizer.audit import AuditConfig
from bloomery.tokenizer.extend import ExtendConfig
from bloomery.training import ParallelConfig, PretrainConfig, TrainConfig, pretrain, pretrain_inputs
from bloomery.training.sweep import SweepConfig

SCHEMA: Mapping[str, type] = {
    "curate": CurateConfig,
    "pictures": PicturesConfig,
    "tokenizer": TokenizerConfig,
    "tokenize": TokenizeConfig,
    "extend": ExtendConfig,
    "audit": AuditConfig,
    "pretrain": PretrainConfig,
    "train": TrainConfig,
    "parallel": ParallelConfig,
    "adapt": AdaptConfig,
    "prefer": PreferenceConfig,
    "reinforce": ReinforceConfig,
    "distil": DistilConfig,
    "domain": DomainConfig,
    "heads": HeadsConfig,
    "measure": MeasureConfig,
    "sweep": SweepConfig,
    "track": TrackConfig,
    "energy": EnergyConfig,
    "serve": ServeConfig,
}

Made = dict[str, Artifact]


@dataclass(frozen=True)
class Link:
    """One stage: which earlier ones it reads, what its result depends on, and how to run it."""

    name: str
    reads: tuple[str, ...]
    inputs: Callable[[Recipe, Made], StageInputs]
    run: Callable[[Recipe, Made, Workspace, bool], Artifact]


@dataclass(frozen=True)
class Step:
    """What `execute` would do with a stage: `action` is "reuse" or "run", `reason` says why in words."""

    name: str
    action: str
    reason: str
    artifact: Artifact | None = None


def _curate(recipe: Recipe, made: Made, workspace: Workspace, fresh: bool) -> Artifact:
    config = recipe.table("curate", CurateConfig)
    return curate(config.sources, config=config, workspace=workspace, fresh=fresh)


def _tokenizer(recipe: Recipe, made: Made, workspace: Workspace, fresh: bool) -> Artifact:
    config = recipe.table("tokenizer", TokenizerConfig)
    return train_tokenizer(made["curate"], config=config, workspace=workspace, fresh=fresh)


def _tokenize(recipe: Recipe, made: Made, workspace: Workspace, fresh: bool) -> Artifact:
    config = recipe.table("tokenize", TokenizeConfig)
    return tokenize(made["curate"], made["tokenizer"], config=config, workspace=workspace, fresh=fresh)


def _pretrain(recipe: Recipe, made: Made, workspace: Workspace, fresh: bool) -> Artifact:
    config = recipe.table("pretrain", PretrainConfig)
    return pretrain(
        made["curate"],
        made["tokenizer"],
        tokens=made["tokenize"],
        config=config,
        parallel=recipe.table("parallel", ParallelConfig),
        workspace=workspace,
        fresh=fresh,
    )


def _measure(recipe: Recipe, made: Made, workspace: Workspace, fresh: bool) -> Artifact:
    config = recipe.table("measure", MeasureConfig)
    return measure(made["pretrain"], made["curate"], made["tokenize"], config=config, workspace=workspace, fresh=fresh)


LINKS: tuple[Link, ...] = (
    Link("curate", (), lambda r, made: curate_inputs(r.table("curate", CurateConfig)), _curate),
    Link(
        "tokenizer",
        ("curate",),
        lambda r, made: train_tokenizer_inputs(made["curate"], config=r.table("tokenizer", TokenizerConfig)),
        _tokenizer,
    ),
    Link(
        "tokenize",
        ("curate", "tokenizer"),
        lambda r, made: tokenize_inputs(made["curate"], made["tokenizer"], config=r.table("tokenize", TokenizeConfig)),
        _tokenize,
    ),
    Link(
        "pretrain",
        ("tokenize", "tokenizer"),
        lambda r, made: pretrain_inputs(r.table("pretrain", PretrainConfig), made["tokenize"].id, made["tokenizer"].id),
        _pretrain,
    ),
    Link(
        "measure",
        ("pretrain", "curate", "tokenize"),
        lambda r, made: measure_inputs(
            r.table("measure", MeasureConfig), made["pretrain"].id, made["curate"].id, made["tokenize"].id
        ),
        _measure,
    ),
)


def explain(recipe: Recipe, workspace: Workspace, *, until: str = "measure") -> list[Step]:
    """What `execute` would do, stage by stage. Nothing is run; sources are looked at, artifacts verified."""
    steps: list[Step] = []
    made: Made = {}
    for link in _links(until):
        changed = [name for name in link.reads if name not in made]
        if changed:
            steps.append(Step(link.name, "run", f"it reads what {' and '.join(changed)} will make"))
            continue
        inputs = link.inputs(recipe, made)
        found = reusable(workspace, inputs)
        if found is None:
            steps.append(Step(link.name, "run", why_run(workspace.ledger, inputs)))
        else:
            made[link.name] = found
            steps.append(Step(link.name, "reuse", f"unchanged: {found.name}", found))
    return steps


def execute(
    recipe: Recipe,
    workspace: Workspace,
    *,
    until: str = "measure",
    fresh: bool = False,
    done: Callable[[str, Artifact, bool], None] = lambda name, artifact, reused: None,
) -> Made:
    """Run the stages up to `until`, reusing what has not changed; returns every stage's artifact.

    `done` hears each stage's name, its artifact and whether it was reused.
    """
    made: Made = {}
    for link in _links(until):
        found = None
        if not fresh:
            found = reusable(workspace, link.inputs(recipe, made))
        made[link.name] = found or link.run(recipe, made, workspace, fresh)
        done(link.name, made[link.name], found is not None)
    return made


def _links(until: str) -> tuple[Link, ...]:
    names = [link.name for link in LINKS]
    if until not in names:
        raise ConfigError(f"unknown stage {until!r}", hint=nearest(until, names))
    return LINKS[: names.index(until) + 1]
