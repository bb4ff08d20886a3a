"""Opening: the embedder that an index's config names, its vectors kept. This module does not know indexes' files."""

from __future__ import annotations

from bloomery.core.workspace import Workspace
from bloomery.retrieve.embedding.cache import CACHE_FILE, CachedEmbedder, EmbeddingCache
from bloomery.retrieve.embedding.embedder import Embedder
from bloomery.retrieve.embedding.endpoint import EmbeddingEndpoint
from bloomery.retrieve.embedding.local import load_local


def open_embedder(name: str, model: str, workspace: Workspace, *, cached: bool = True) -> Embedder:
    """By folder, artifact, hub id, "minilm", or an endpoint's address with the model's name there. `cached` keeps
    vectors in the workspace, so that no text is embedded twice: for passages; queries come once."""
    embedder = EmbeddingEndpoint.of(name, model) if "://" in name else load_local(name, workspace)
    return CachedEmbedder(embedder, EmbeddingCache(workspace.root / CACHE_FILE)) if cached else embedder
