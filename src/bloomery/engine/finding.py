"""Finding: the folder of a model that is named by folder, artifact, or id on the Hugging Face hub.

Only safetensors, JSON, Jinja and vocabulary files are ever downloaded. This module does not know PyTorch, nor what is
in the files.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from bloomery.core.artifact import MANIFEST, Artifact
from bloomery.core.errors import ArtifactError, DataError, MissingExtraError
from bloomery.core.workspace import DEFAULT_HOME, HOME_VARIABLE, LATEST, Workspace, as_workspace

MAGIC = b"GGUF"
"""What a file of llama.cpp's begins with."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "vocab.txt", "merges.txt", "*.model"]


def find_model(
    reference: str | Path | Artifact, workspace: Workspace | str | Path | None, *, hasty: bool = False
) -> tuple[Path, str]:
    """The folder that holds the model's files, and its name. `hasty`: an artifact's files are not read, and the hub is
    not asked."""
    if isinstance(reference, Artifact):
        return _model_folder(reference), reference.name
    path = Path(reference).expanduser()
    if (path / MANIFEST).is_file():
        artifact = Artifact.open(path, verify=not hasty)
        return _model_folder(artifact), artifact.name
    if path.is_dir():
        if not (path / "config.json").is_file():
            file = next(iter(sorted(path.glob("*.gguf"))), None)
            hint = "give the folder of a model" if file is None else f"bloomery import {file}"
            raise DataError(f"{path} holds no model: it has no config.json", hint=hint)
        return path, path.resolve().name
    if is_gguf(path) and path.is_file():
        raise DataError(
            f"{path} is a file of llama.cpp's", hint=f"bloomery import {path} makes a model of it that is used by name"
        )
    home = _existing_workspace(workspace)
    text = str(reference)
    if home is not None and (text == LATEST or home.matching(text)):
        artifact = home.find(text, verify=not hasty)
        return _model_folder(artifact), artifact.name
    if text == LATEST:
        raise ArtifactError("no model is the latest: there is no workspace yet", hint="bloomery demo")
    if isinstance(reference, str) and _HUB_ID.fullmatch(text) and not hasty:
        return _download(text), text
    raise ArtifactError(f"no model {text!r}", hint="give a folder, the name or id of a model artifact, or a hub id")


def _model_folder(artifact: Artifact) -> Path:
    if artifact.kind == "adapter":
        hint = f"bloomery adapt merge {artifact.name}; generate, chat and serve take --adapter {artifact.name}"
        raise ArtifactError(f"{artifact.name} is an adapter, which is computed with a model", hint=hint)
    if not (artifact.path / "config.json").is_file():
        raise ArtifactError(f"{artifact.name} is a {artifact.kind}, not a model", hint="bloomery runs lists the models")
    return artifact.path


def _existing_workspace(workspace: Workspace | str | Path | None) -> Workspace | None:
    """The workspace; None if none was given and the default one does not exist: looking must not create it."""
    if workspace is None and not Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).is_dir():
        return None
    return as_workspace(workspace)


def _download(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtraError("huggingface_hub", "hub", f"downloading {name}") from None
    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except Exception as error:  # whatever the hub's client or its network stack raises
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ArtifactError(
            f"no model {name!r} here, and it could not be had from the hub: {reason:.200}",
            hint="check the name and the network, or give a local folder",
        ) from error


def is_gguf(reference: object) -> bool:
    """Whether a reference names a GGUF file: by its suffix, or by what a file begins with."""
    if not isinstance(reference, str | Path):
        return False
    path = Path(reference).expanduser()
    if path.suffix.lower() == ".gguf":
        return not path.is_dir()
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except (OSError, ValueError):
        return False
