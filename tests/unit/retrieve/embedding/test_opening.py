"""Which embedder a name means."""

from __future__ import annotations

import pytest

from bloomery.core.workspace import Workspace
from bloomery.retrieve.embedding.cache import CACHE_FILE, CachedEmbedder
from bloomery.retrieve.embedding.endpoint import EmbeddingEndpoint
from bloomery.retrieve.embedding.opening import open_embedder

pytest.importorskip("httpx")


def test_an_address_is_an_endpoint(tmp_path):
    home = Workspace(tmp_path)
    plain = open_embedder("http://127.0.0.1:1/v1", "m", home, cached=False)
    assert isinstance(plain, EmbeddingEndpoint) and plain.name == "m@127.0.0.1:1"
    kept = open_embedder("http://127.0.0.1:1/v1", "m", home)
    assert isinstance(kept, CachedEmbedder) and kept.name == plain.name and (tmp_path / CACHE_FILE).is_file()
    plain.close()
    kept.close()
