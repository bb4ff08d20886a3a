"""Opening an index by name."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ArtifactError
from bloomery.retrieve import IndexConfig, SearchConfig, index, open_index


def test_by_name(tmp_path, documents, embedder):
    index(documents, into="docs", workspace=tmp_path, config=IndexConfig(embedder="hashed"), embedder=embedder)
    with open_index("docs", workspace=tmp_path, embedder=embedder) as found:
        assert found.search("iron")[0].chunk.document_id in ("a.txt", "c.txt")
    with open_index("docs", workspace=tmp_path, search=SearchConfig(mode="lexical")) as found:
        assert found.embedder is None
    with pytest.raises(ArtifactError, match="no index"):
        open_index("absent", workspace=tmp_path)
