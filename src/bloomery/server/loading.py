"""POST /v1/models/load and DELETE /v1/models/{name}: models come and go while the server runs.

Only models of the workspace, by name or id, and folders inside those that the configuration allows; nothing is
downloaded, and no path leads out. This module does not know who may ask (see `tenant`) or HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from bloomery.core.artifact import Artifact
from bloomery.core.errors import BloomeryError, ConfigError, RequestError
from bloomery.core.workspace import LATEST, Workspace
from bloomery.engine import LanguageModel, load
from bloomery.models.future_heads import KIND as HEADS
from bloomery.models.future_heads import FutureHeads
from bloomery.server.config import ServeConfig
from bloomery.server.schemas import Text, refuse_unsupported
from bloomery.server.shelf import Shelf

LOAD = "/v1/models/load"
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}")
_MAX_PARTS = 4


class LoadBody(BaseModel):
    """`model` is the name or id of a model artifact, or a folder inside an allowed one: "name", "org/name"."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: Text

    def refuse_unsupported(self) -> None:
        refuse_unsupported(self.model_extra or {}, type(self).model_fields, {})


def check_name(name: str, *, param: str = "lora_name") -> str:
    """RequestError for what is no name: letters, digits, "_", ".", "+", "-", in up to four parts."""
    parts = name.split("/")
    if len(parts) > _MAX_PARTS or not all(_PART.fullmatch(part) for part in parts):
        raise RequestError(f"{name!r:.200} is no name of a model", param=param, code="invalid_value")
    return name


def find_loadable(
    name: str,
    workspace: Workspace | None,
    folders: Sequence[str | Path],
    *,
    file: str = "config.json",
    param: str = "model",
) -> Artifact | Path:
    """What a name stands for; the workspace comes first; a folder is one that has `file`. RequestError for what is no
    name, 404 for what is nowhere."""
    parts = check_name(name, param=param).split("/")
    if workspace is not None and len(parts) == 1:
        found = [] if name == LATEST else workspace.matching(name)  # another one tomorrow, under one name
        if len(found) > 1:
            message = f"{name} stands for {len(found)} artifacts"
            raise RequestError(message, hint="give more of its id", param=param, code="invalid_value")
        if found:
            return _artifact(found[0])
    for root in folders:
        inside = Path(root).expanduser().resolve()
        # Resolved, so that a link does not lead out either.
        path = inside.joinpath(*parts).resolve()
        if path != inside and path.is_relative_to(inside) and (path / file).is_file():
            return path
    raise RequestError(f"no model {name!r:.200} can be loaded", param=param, code="model_not_found", status=404)


def _artifact(path: Path) -> Artifact:
    try:
        return Artifact.open(path)
    except BloomeryError as error:
        raise unusable(error) from error


def open_model(reference: str | Path | Artifact, workspace: Workspace | None, config: ServeConfig) -> Any:
    """A model as the server computes with it: its weights and its engine as the config says."""
    model = load(reference, weights=config.weights, workspace=workspace)
    if isinstance(model, LanguageModel):
        model.set_engine(config.engine)
    return model


def given_draft(shelf: Shelf, workspace: Workspace | None, config: ServeConfig) -> None:
    """The draft model of the configuration, for the first language model. ConfigError if it cannot be that."""
    if not config.draft_model:
        return
    try:
        base: LanguageModel = shelf.base(None)
    except RequestError as error:
        raise ConfigError(str(error), hint=error.hint) from error
    named = workspace is not None and config.draft_model != LATEST
    if workspace is not None and named and workspace.matching(config.draft_model, kind=HEADS):
        base.set_draft_heads(FutureHeads.load(workspace.find(config.draft_model, kind=HEADS).path))
        return
    draft = load(config.draft_model, weights=config.weights, workspace=workspace)
    if not isinstance(draft, LanguageModel):
        raise ConfigError(f"{config.draft_model} writes no text", hint="a draft model is a smaller language model")
    base.set_draft_model(draft)
    draft.close()  # its meter: nobody asks it by itself


def load_onto(shelf: Shelf, body: LoadBody, workspace: Workspace | None, config: ServeConfig) -> str:
    """Load a model and put it on the shelf; returns its name. RequestError for whatever is in the way."""
    body.refuse_unsupported()
    reference = find_loadable(body.model, workspace, config.model_folders)
    name = reference.name
    if name in shelf:
        raise taken(name)
    if len(shelf) >= config.max_models:
        message = f"{len(shelf)} models are served, which is the limit"
        raise RequestError(message, hint="unload one", code="too_many_models", status=409)
    try:
        model = open_model(reference, workspace, config)
    except BloomeryError as error:
        raise unusable(error) from error
    try:
        shelf.add(model, owned=True)  # type: ignore[arg-type]
    except ConfigError as error:
        model.close()
        raise (taken(name) if name in shelf else unusable(error)) from error
    return model.name


def taken(name: str) -> RequestError:
    """409 for a name that stands on the shelf."""
    return RequestError(f"a model {name!r:.200} is served already", param="model", code="model_exists", status=409)


def unusable(error: BloomeryError, *, param: str = "model") -> RequestError:
    """400 for files that cannot be served."""
    return RequestError(error.one_line(), param=param, code="model_unusable")
