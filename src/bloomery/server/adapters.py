"""POST /v1/load_lora_adapter and /v1/unload_lora_adapter, as vLLM has them: an adapter is a model id of its own.

Only artifacts of the workspace and folders inside those that the configuration allows; nothing is downloaded, and no
path leads out. This module does not know who may ask (see `tenant`) or HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from bloomery.core.errors import BloomeryError, ConfigError, RequestError
from bloomery.core.workspace import Workspace
from bloomery.engine import LanguageModel
from bloomery.models.adapter_config import FILE
from bloomery.server.config import ServeConfig
from bloomery.server.loading import check_name, find_loadable, taken, unusable
from bloomery.server.schemas import Text, refuse_unsupported
from bloomery.server.shelf import Shelf

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"


class LoadAdapterBody(BaseModel):
    """`lora_path` is the name of an artifact, or a folder inside an allowed one; `model` is the base, if not the first
    language model."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    lora_name: Text
    lora_path: Text
    model: Text | None = None

    def refuse_unsupported(self) -> None:
        neutral = {"load_inplace": (False, None), "base_model_name": (None,), "is_3d_lora_weight": (False, None)}
        refuse_unsupported(self.model_extra or {}, type(self).model_fields, neutral)


class UnloadAdapterBody(BaseModel):
    """`lora_int_id` is vLLM's own number, and not looked at."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    lora_name: Text
    lora_int_id: int | None = None

    def refuse_unsupported(self) -> None:
        refuse_unsupported(self.model_extra or {}, type(self).model_fields, {})


def load_adapter_onto(shelf: Shelf, body: LoadAdapterBody, workspace: Workspace | None, config: ServeConfig) -> str:
    """Load an adapter and put it on the shelf; returns its name. RequestError for whatever is in the way."""
    body.refuse_unsupported()
    name = check_name(body.lora_name)
    base = shelf.base(body.model)
    if name in shelf:
        raise taken(name)
    if len(shelf.adapters()) >= config.max_adapters:
        message = f"{config.max_adapters} adapters are served, which is the limit"
        raise RequestError(message, hint="unload one", code="too_many_adapters", status=409)
    folder = _find(body.lora_path, workspace, config.model_folders)
    try:
        base.load_adapter(folder, name=name)
    except BloomeryError as error:
        raise unusable(error, param="lora_path") from error
    try:
        shelf.add_adapter(base, name)
    except ConfigError as error:
        base.unload_adapter(name)
        raise taken(name) from error
    return name


def _find(path: str, workspace: Workspace | None, folders: Sequence[str]) -> Path:
    """The folder that a name or a path stands for. RequestError 404 for what is nowhere, or not allowed."""
    for root in folders:
        inside = Path(root).expanduser().resolve()
        if path.startswith(f"{inside}/"):
            path = path.removeprefix(f"{inside}/")
            break
    found = find_loadable(path, workspace, folders, file=FILE, param="lora_path")
    return found if isinstance(found, Path) else found.path


def given_adapters(shelf: Shelf, texts: Sequence[str]) -> None:
    """The adapters of a command line, "name=folder" each, for the first language model. ConfigError for another form;
    otherwise as `LanguageModel.load_adapter`."""
    for text in texts:
        name, equals, folder = text.partition("=")
        if not equals or not name or not folder:
            raise ConfigError(f"an adapter is given as name=folder, not {text!r:.80}")
        try:
            base: LanguageModel = shelf.base(None)
            check_name(name)
        except RequestError as error:
            raise ConfigError(str(error), hint=error.hint) from error
        if name in shelf:
            raise ConfigError(f"there is a model {name!r:.60} already", hint="each needs its own name")
        base.load_adapter(folder, name=name)
        shelf.add_adapter(base, name)
