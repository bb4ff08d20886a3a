"""Vectors of length one."""

from __future__ import annotations

import numpy as np

from bloomery.retrieve.embedding.embedder import unit


def test_unit():
    vectors = unit(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0, 0]], rtol=1e-6)
    assert vectors.dtype == np.float32
