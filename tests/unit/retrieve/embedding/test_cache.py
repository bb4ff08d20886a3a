"""The cache: what was embedded once is not embedded again, in any order, by any process."""

from __future__ import annotations

import numpy as np

from bloomery.retrieve.embedding.cache import CachedEmbedder, EmbeddingCache


def test_nothing_is_embedded_twice(tmp_path, embedder):
    cached = CachedEmbedder(embedder, EmbeddingCache(tmp_path / "c.sqlite"))
    texts = ["iron ore", "coal", "iron ore", "a longer text of slag"]
    first = cached.embed(texts)
    assert embedder.asked == 3
    np.testing.assert_array_equal(first, type(embedder)().embed(texts))
    cached.close()
    again = CachedEmbedder(embedder, EmbeddingCache(tmp_path / "c.sqlite"))
    np.testing.assert_array_equal(again.embed(texts[::-1]), first[::-1])
    assert embedder.asked == 3
    assert again.embed([]).shape == (0, 32)
    other = CachedEmbedder(type(embedder)(16), EmbeddingCache(tmp_path / "c.sqlite"))
    assert other.embed(texts).shape == (4, 16)
    again.close()
    other.close()
