"""`bloomery tokenize`: a tokenizer and tokens from a corpus. This module does not know how either is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from bloomery.core.artifact import Artifact
    from bloomery.core.recipe import Recipe
    from bloomery.core.workspace import Workspace


def tokenize(
    corpus: Annotated[str, Parameter(help="A corpus: name, id or folder [default: the latest].")] = "",
    *,
    extend: Annotated[
        str,
        Parameter(
            help="Extend this model (artifact, folder or hub id) with tokens of the corpus, its rows begun from"
            " their parts; --set extend.tokens=1000."
        ),
    ] = "",
    recipe: RecipeFile = None,
    set_: Overrides = None,
    fresh: Fresh = False,
    common: Common | None = None,
) -> None:
    """Train a tokenizer on a corpus and turn the corpus into tokens; or extend a model's with the corpus's words."""
    common = common or Common()
    from bloomery.tokenizer import TokenizeConfig, TokenizerConfig, train_tokenizer
    from bloomery.tokenizer import tokenize as tokenize_stage

    settings, workspace = read_recipe(recipe, set_), common.workspace()
    source = workspace.find(corpus, kind="corpus") if corpus else workspace.latest("corpus")
    if extend:
        _extend(extend, source, settings, workspace, fresh, common)
        return
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


def _extend(model: str, corpus: Artifact, settings: Recipe, workspace: Workspace, fresh: bool, common: Common) -> None:
    from bloomery.tokenizer.extend import ExtendConfig
    from bloomery.training.extension import extend_model

    config = settings.table("extend", ExtendConfig)
    made = extend_model(model, corpus, config=config, workspace=workspace, fresh=fresh)
    metrics = made.metrics
    rows, sizes = metrics["rows"], metrics["bytes_per_token"]
    lines = [
        f"{metrics['added']:,} tokens added, {metrics['vocab_size']:,} ids",
        f"rows of the embedding: {rows['before']:,} to {rows['after']:,}",
    ]
    if sizes["before"]:
        lines.append(f"bytes a token on held-out text: {sizes['before']:.2f} to {sizes['after']:.2f}")
    show_artifact(made, common, [*lines, "train it on: its new rows are means of their parts (bloomery train)"])
