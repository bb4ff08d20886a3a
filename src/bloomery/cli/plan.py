"""`bloomery plan`: what a model for a corpus and a budget would be, before anything is spent.

This module does not know how a plan is made.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from bloomery.cli.options import Common, Overrides, RecipeFile, print_json, read_recipe

Minutes = Annotated[float | None, Parameter(help="Minutes of training on this machine [default: the recipe's, 5].")]


def plan(
    corpus: Annotated[str, Parameter(help="A corpus: name, id or folder [default: the latest].")] = "",
    *,
    minutes: Minutes = None,
    recipe: RecipeFile = None,
    set_: Overrides = None,
    common: Common | None = None,
) -> None:
    """What a model for this corpus and budget would be, take and reach. Tokenizes when needed, and measures."""
    common = common or Common()
    from bloomery.core.progress import plan_lines
    from bloomery.tokenizer import TokenizeConfig, Tokenizer, TokenizerConfig, train_tokenizer
    from bloomery.tokenizer import tokenize as tokenize_stage
    from bloomery.training import PretrainConfig
    from bloomery.training import plan as make_plan
    from bloomery.training.pretrain import plan_request

    overrides = [*(set_ or []), *([f"pretrain.minutes={minutes}"] if minutes is not None else [])]
    settings, workspace = read_recipe(recipe, overrides), common.workspace()
    source = workspace.find(corpus, kind="corpus") if corpus else workspace.latest("corpus")
    trained = train_tokenizer(source, config=settings.table("tokenizer", TokenizerConfig), workspace=workspace)
    tokens = tokenize_stage(source, trained, config=settings.table("tokenize", TokenizeConfig), workspace=workspace)
    request = plan_request(settings.table("pretrain", PretrainConfig), tokens, Tokenizer.load(trained.path))
    made = make_plan(request).to_dict()
    if common.json:
        print_json(made)
    else:
        print("\n".join(plan_lines(made)))
