"""Opening: an index by name or path, with the embedder that its queries need. This module does not search."""

from __future__ import annotations

from pathlib import Path

from bloomery.core.workspace import Workspace, as_workspace
from bloomery.retrieve.embedding.embedder import Embedder
from bloomery.retrieve.embedding.opening import open_embedder
from bloomery.retrieve.places import existing_index
from bloomery.retrieve.store.config import SearchConfig
from bloomery.retrieve.store.index import Index


def open_index(
    name: str | Path,
    *,
    workspace: Workspace | str | Path | None = None,
    search: SearchConfig | None = None,
    embedder: Embedder | None = None,
) -> Index:
    """An index of the workspace by name, or in any folder by path. Its embedder is loaded where the index has vectors
    and `search` asks for more than words. ArtifactError where there is no such index."""
    home = as_workspace(workspace)
    found = Index(existing_index(name, home), embedder=embedder, search=search)
    if embedder is None and found.config.embedder and found.settings.mode != "lexical":
        config = found.config
        found.embedder = open_embedder(config.embedder, config.embedder_model, home, cached=False)
    return found
