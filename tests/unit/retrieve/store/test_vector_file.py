"""The vector file: rows as they were written, inner products as NumPy's in float64."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import ArtifactError
from bloomery.retrieve.store.vector_file import VectorFile, blocks, products


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_rows_and_products(tmp_path, precision):
    vectors = np.random.default_rng(0).standard_normal((5000, 24)).astype(np.float32)
    file = VectorFile(tmp_path / "v.raw", 24, precision)
    file.write(0, vectors[:3000])
    file.write(3000, vectors[3000:])
    mapped = file.rows(5000)
    np.testing.assert_array_equal(mapped, vectors.astype(mapped.dtype))
    query = vectors[7]
    exact = mapped.astype(np.float64) @ query
    np.testing.assert_allclose(products(mapped, query), exact, atol=1e-4)  # float32 sums of 24 terms up to 10


def test_a_later_writer_writes_over_what_did_not_count(tmp_path):
    file = VectorFile(tmp_path / "v.raw", 2, "float32")
    file.write(0, np.ones((5, 2)))
    file.write(1, np.zeros((1, 2)))
    assert file.rows(2).tolist() == [[1, 1], [0, 0]]


def test_a_short_file_and_none(tmp_path):
    file = VectorFile(tmp_path / "v.raw", 2, "float32")
    assert file.rows(0).shape == (0, 2)
    with pytest.raises(FileNotFoundError):
        file.rows(1)
    file.write(0, np.ones((1, 2)))
    with pytest.raises(ArtifactError, match="lacks vectors"):
        file.rows(2)


def test_blocks_cover_all_rows():
    assert [n for start, end in blocks(10_001, 384) for n in range(start, end)] == list(range(10_001))
