"""`bloomery serve`: OpenAI's HTTP routes over a model. This module does not know the routes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from bloomery.cli.generate import Weights
from bloomery.cli.options import Common, Overrides, RecipeFile, read_recipe


def serve(
    *models: Annotated[str, Parameter(help="Models by name, id, folder or hub id [default: the latest model].")],
    port: Annotated[int | None, Parameter(help="0 takes a free one [default: 8000].")] = None,
    host: Annotated[str | None, Parameter(help="Anything but loopback needs BLOOMERY_API_KEY or --keys.")] = None,
    keys: Annotated[Path | None, Parameter(help="A file of API keys with names and limits: see bloomery keys.")] = None,
    adapter: Annotated[
        list[str] | None, Parameter(help="name=folder: a LoRA adapter, served as a model; may be given again.")
    ] = None,
    weights: Weights = None,
    recipe: RecipeFile = None,
    set_: Overrides = None,
    common: Common | None = None,
) -> None:
    """Serve language models and encoders over OpenAI's HTTP routes, on loopback.

    Ctrl-C lets running requests end, then stops."""
    common = common or Common()
    from bloomery.server import ServeConfig
    from bloomery.server import serve as serve_model

    config = read_recipe(recipe, set_).table("serve", ServeConfig)
    given: dict[str, Any] = {"port": port, "host": host, "weights": weights}
    given |= {"keys": None if keys is None else str(keys), "adapters": tuple(adapter) if adapter else None}
    config = replace(config, **{name: value for name, value in given.items() if value is not None})
    workspace = common.workspace()
    serve_model(models or workspace.latest("model"), workspace=workspace, config=config)
