"""`bloomery serve`: OpenAI's HTTP routes over a model. This module does not know the routes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from bloomery.cli.generate import Weights
from bloomery.cli.options import Common, Overrides, RecipeFile, read_recipe

if TYPE_CHECKING:
    from bloomery.core.workspace import Workspace


def serve(
    *models: Annotated[str, Parameter(help="Models by name, id, folder or hub id [default: the latest model].")],
    port: Annotated[int | None, Parameter(help="0 takes a free one [default: 8000].")] = None,
    host: Annotated[str | None, Parameter(help="Anything but loopback needs BLOOMERY_API_KEY or --keys.")] = None,
    keys: Annotated[Path | None, Parameter(help="A file of API keys with names and limits: see bloomery keys.")] = None,
    adapter: Annotated[
        list[str] | None,
        Parameter(help="name=adapter: a LoRA adapter (artifact or folder), served as a model; may be repeated."),
    ] = None,
    engine: Annotated[
        Literal["bloomery", "vllm"],
        Parameter(
            help="vllm: one model, by a vLLM process under the same keys and books (tested with a stand-in only)."
        ),
    ] = "bloomery",
    upstream: Annotated[str | None, Parameter(help="A vLLM server on loopback that runs already.")] = None,
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
    workspace = common.workspace()
    adapters = [found_adapter(one, workspace) for one in adapter or ()]
    given |= {"keys": None if keys is None else str(keys)}
    given["adapters"] = tuple(text for text, _ in adapters) or None
    given["upstream"] = upstream
    config = replace(config, **{name: value for name, value in given.items() if value is not None})
    if engine == "vllm" or config.upstream:
        from bloomery.core.errors import ConfigError
        from bloomery.server.upstream_serve import serve_vllm

        if adapter:
            raise ConfigError(
                "--engine vllm takes adapters from vLLM", hint="--set serve.vllm_args='[\"--enable-lora\"]'"
            )
        if len(models) > 1 or weights is not None:
            what = "one model" if len(models) > 1 else "vLLM's own formats of weights"
            raise ConfigError(f"--engine vllm serves {what}", hint="--set serve.vllm_args='[\"--quantization\", ...]'")
        model = models[0] if models else None if config.upstream else str(workspace.latest("model").path)
        serve_vllm(model, workspace=workspace, config=config)
        return
    base = next((base for _, base in adapters if base), "")
    serve_model(models or base or workspace.latest("model"), workspace=workspace, config=config)


def found_adapter(given: str, workspace: Workspace) -> tuple[str, str]:
    """name=folder of an adapter that may be given by the name of its artifact, which is its own name then; and the id
    of the model that it was trained on, if an artifact knows that."""
    name, equals, reference = given.rpartition("=")
    if not reference or Path(reference).is_dir() or not workspace.matching(reference):
        return given, ""
    from bloomery.adapt.tuning.adapt import adapter_folder
    from bloomery.adapt.tuning.merging import base_id

    folder, artifact = adapter_folder(reference, workspace)
    assert artifact is not None
    return f"{name if equals else artifact.name}={folder}", base_id(artifact)
