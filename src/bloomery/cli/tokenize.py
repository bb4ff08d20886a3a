"""`bloomery tokenize`: a tokenizer and tokens from a corpus. This module does not know how either is made."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from bloomery.cli.options import (
    Common,
    Fresh,
    Overrides,
    RecipeFile,
    artifact_data,
    print_json,
    read_recipe,
    show_artifact,
)


def tokenize(
    corpus: Annotated[str, Parameter(help="A corpus: name, id or folder [default: the latest].")] = "",
    *,
    recipe: RecipeFile = None,
    set_: Overrides = None,
    fresh: Fresh = False,
    common: Common | None = None,
) -> None:
    """Train a tokenizer on a corpus and turn the corpus into tokens."""
    common = common or Common()
    from bloomery.tokenizer import TokenizeConfig, TokenizerConfig, train_tokenizer
    from bloomery.tokenizer import tokenize as tokenize_stage

    settings, workspace = read_recipe(recipe, set_), common.workspace()
    source = workspace.find(corpus, kind="corpus") if corpus else workspace.latest("corpus")
    trained = train_tokenizer(
        source, config=settings.table("tokenizer", TokenizerConfig), workspace=workspace, fresh=fresh
    )
    config = settings.table("tokenize", TokenizeConfig)
    made = tokenize_stage(source, trained, config=config, workspace=workspace, fresh=fresh)
    if common.json:
        print_json({"tokenizer": artifact_data(trained), "tokens": artifact_data(made)})
        return
    show_artifact(trained, common, [])
    metrics = made.metrics
    lines = []
    for split, count in metrics["tokens"].items():
        if count:
            lines.append(f"{split}: {count:,} tokens, {metrics['text_bytes'][split] / count:.2f} bytes a token")
    lines += [f"{name.replace('_', ' ')}: {value:.2%}" for name, value in metrics.items() if name.endswith("_share")]
    show_artifact(made, common, lines)
