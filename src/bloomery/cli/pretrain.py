"""`bloomery pretrain`: a model from random weights within a budget. This module does not know how it is trained."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from bloomery.cli.options import (
    Common,
    Fresh,
    Overrides,
    Preflight,
    Ranks,
    RecipeFile,
    Track,
    read_recipe,
    show_artifact,
    tracked,
    with_ranks,
)
from bloomery.cli.plan import Minutes


def pretrain(
    corpus: Annotated[str, Parameter(help="A corpus: name, id or folder [default: the latest].")] = "",
    *,
    minutes: Minutes = None,
    ranks: Ranks = None,
    recipe: RecipeFile = None,
    set_: Overrides = None,
    track: Track = None,
    preflight: Preflight = True,
    fresh: Fresh = False,
    common: Common | None = None,
) -> None:
    """Train a model from random weights within a budget. Killed at any instant, the same command goes on."""
    common = common or Common()
    from bloomery.cli.show import outcome_lines
    from bloomery.tokenizer import TokenizeConfig, TokenizerConfig, train_tokenizer
    from bloomery.training import ParallelConfig, PretrainConfig
    from bloomery.training import pretrain as pretrain_stage

    settings = read_recipe(recipe, with_ranks(set_, ranks))
    workspace = tracked(common.workspace(), settings, track)
    source = workspace.find(corpus, kind="corpus") if corpus else workspace.latest("corpus")
    trained = train_tokenizer(source, config=settings.table("tokenizer", TokenizerConfig), workspace=workspace)
    made = pretrain_stage(
        source,
        trained,
        minutes=minutes,
        config=settings.table("pretrain", PretrainConfig),
        parallel=settings.table("parallel", ParallelConfig),
        tokenize_config=settings.table("tokenize", TokenizeConfig),
        workspace=workspace,
        fresh=fresh,
        preflight=preflight,
    )
    show_artifact(made, common, outcome_lines(made.metrics))
