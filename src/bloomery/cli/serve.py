"""`bloomery serve`: OpenAI's HTTP routes over a model. This module does not know the routes."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from cyclopts import Parameter

from bloomery.cli.generate import ModelName, Weights
from bloomery.cli.options import Common, Overrides, RecipeFile, read_recipe


def serve(
    model: ModelName = "",
    *,
    port: Annotated[int | None, Parameter(help="0 takes a free one [default: 8000].")] = None,
    host: Annotated[str | None, Parameter(help="Anything but loopback needs BLOOMERY_API_KEY.")] = None,
    weights: Weights = None,
    recipe: RecipeFile = None,
    set_: Overrides = None,
    common: Common | None = None,
) -> None:
    """Serve a model over OpenAI's HTTP routes, on loopback. Ctrl-C lets running requests end, then stops."""
    common = common or Common()
    from bloomery.server import ServeConfig
    from bloomery.server import serve as serve_model

    config = read_recipe(recipe, set_).table("serve", ServeConfig)
    if port is not None:
        config = replace(config, port=port)
    if host is not None:
        config = replace(config, host=host)
    if weights is not None:
        config = replace(config, weights=weights)
    workspace = common.workspace()
    serve_model(model or workspace.latest("model"), workspace=workspace, config=config)
