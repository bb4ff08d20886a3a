"""`bloomery pretrain`: a model from random weights within a budget. This module does not know how it is trained."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from bloomery.cli.options import (
    Common,
    Fresh,
    Overrides,
    Preflight,
    Ranks,
    RecipeFile,
    Track,
    TrainingEngine,
    read_recipe,
    show_artifact,
    tracked,
    with_ranks,
)
from bloomery.cli.plan import Minutes

if TYPE_CHECKING:
    from bloomery.core.workspace import Workspace
    from bloomery.training import Plan


def pretrain(
    corpus: Annotated[str, Parameter(help="A corpus: name, id or folder [default: the latest].")] = "",
    *,
    minutes: Minutes = None,
    plan: Annotated[str, Parameter(help="Follow this plan of `bloomery plan`: a file, or an artifact.")] = "",
    fast: Annotated[
        bool, Parameter(negative="", help="What learns fastest here; such a model runs in bloomery alone.")
    ] = False,
    ranks: Ranks = None,
    engine: TrainingEngine = None,
    recipe: RecipeFile = None,
    set_: Overrides = None,
    track: Track = None,
    preflight: Preflight = True,
    fresh: Fresh = False,
    common: Common | None = None,
) -> None:
    """Train a model from random weights within a budget. Killed at any instant, the same command goes on."""
    common, began = common or Common(), time.time()
    from bloomery.cli.show import outcome_lines
    from bloomery.tokenizer import TokenizeConfig, TokenizerConfig, train_tokenizer
    from bloomery.training import ParallelConfig, PretrainConfig
    from bloomery.training import pretrain as pretrain_stage

    settings = read_recipe(recipe, with_ranks(set_, ranks, engine))
    workspace = tracked(common.workspace(), settings, track)
    source = workspace.find(corpus, kind="corpus") if corpus else workspace.latest("corpus")
    config = settings.table("pretrain", PretrainConfig)
    followed = _plan(plan, workspace, minutes)
    trained = workspace.published(followed.tokenizer_artifact) if followed and followed.tokenizer_artifact else None
    if trained is None or "tokenizer.vocab_size" in settings.keys:
        trained = train_tokenizer(source, config=settings.table("tokenizer", TokenizerConfig), workspace=workspace)
    made = pretrain_stage(
        source,
        trained,
        minutes=minutes,
        config=replace(config, fast=True) if fast else config,
        parallel=settings.table("parallel", ParallelConfig),
        tokenize_config=settings.table("tokenize", TokenizeConfig),
        plan=followed,
        workspace=workspace,
        fresh=fresh,
        preflight=preflight,
    )
    show_artifact(made, common, outcome_lines(made.metrics), began=None if fresh else began)


def _plan(reference: str, workspace: Workspace, minutes: float | None) -> Plan | None:
    """The plan of a file or an artifact; None when none is given."""
    from bloomery.core.errors import ConfigError
    from bloomery.training.planning.plan import read_plan

    if not reference:
        return None
    if minutes is not None:
        raise ConfigError(
            "a plan has its budget: --minutes cannot change it", hint="bloomery plan --minutes, or no --plan"
        )
    path = Path(reference)
    return read_plan(path if path.is_file() else workspace.find(reference, kind="plan").path)
