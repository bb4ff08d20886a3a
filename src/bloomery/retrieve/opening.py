"""Opening: an index by name or path or on a server, with the embedder that its queries need. This module does not
search."""

from __future__ import annotations

from pathlib import Path

from bloomery.core.endpoint import EndpointConfig, read_key
from bloomery.core.errors import ArtifactError, ConfigError
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.retrieve.embedding.embedder import Embedder
from bloomery.retrieve.embedding.opening import open_embedder
from bloomery.retrieve.places import existing_index, server_of
from bloomery.retrieve.store.config import SearchConfig, require_embedder
from bloomery.retrieve.store.index import Index
from bloomery.retrieve.store.qdrant import QdrantIndex, connect

KEY = "BLOOMERY_QDRANT_KEY"
"""The variable that holds a Qdrant server's key."""


def open_index(
    name: str | Path,
    *,
    workspace: Workspace | str | Path | None = None,
    search: SearchConfig | None = None,
    embedder: Embedder | None = None,
) -> Index:
    """An index of the workspace by name, or in any folder by path. Its embedder is loaded where the index has vectors
    and `search` asks for more than words. ArtifactError where there is no such index, ConfigError where its vectors
    were made with other weights."""
    home = as_workspace(workspace)
    found = Index(existing_index(name, home), embedder=embedder, search=search)
    if embedder is None and found.config.embedder and found.settings.mode != "lexical":
        config = found.config
        try:
            opened = open_embedder(config.embedder, config.embedder_model, home, cached=False)
            try:
                found.use(opened)
            except BaseException:
                opened.close()
                raise
        except BaseException:
            found.close()
            raise
    return found


def open_retriever(
    name: str | Path,
    *,
    workspace: Workspace | str | Path | None = None,
    search: SearchConfig | None = None,
    embedder: Embedder | None = None,
) -> Index | QdrantIndex:
    """As `open_index`, and an index on a server too (see `server_index`). RequestError where that does not answer."""
    found = server_index(name, search)
    if found is None:
        return open_index(name, workspace=workspace, search=search, embedder=embedder)
    try:
        known = found.kept_config()
        if known is None:
            raise ArtifactError(f"no index {found.collection!r} on the server", hint="bloomery index makes one")
        found.use(known)
        if embedder is None and known.embedder and found.settings.mode != "lexical":
            home = as_workspace(workspace)
            embedder = open_embedder(known.embedder, known.embedder_model, home, cached=False)
        if embedder is not None:
            require_embedder(embedder.name, found.kept_embedder(), found.collection)
        found.embedder = embedder
    except BaseException:
        found.close()
        raise
    return found


def server_index(name: str | Path, search: SearchConfig | None = None) -> QdrantIndex | None:
    """The index of qdrant+http://HOST:6333/COLLECTION, not looked at yet; None for a name or a path. The server's key,
    if it wants one, is $BLOOMERY_QDRANT_KEY. ConfigError for a key that would be sent in the open."""
    server = server_of(name)
    if server is None:
        return None
    address, collection = server
    key = ""
    if "://" in address:
        config = EndpointConfig(url=address, model=collection, key_variable=KEY)
        key = read_key(config)
        if key and address.startswith("http://") and not config.is_loopback:
            raise ConfigError(f"the key would go to {config.host} in the open", hint="https")
    return QdrantIndex(connect(address, key=key or None), collection, search=search)
