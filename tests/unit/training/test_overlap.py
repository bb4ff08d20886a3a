"""Overlap: exact copies across the split are counted, near ones are not."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.models.classifiers import MeanTextClassifier, MeanTextConfig
from bloomery.tokenizer import PackedRows, TokenShards
from bloomery.tokenizer.shards import ShardWriter
from bloomery.training.labels import ClassificationObjective, LabelledText, TextReader
from bloomery.training.loader import ExampleLoader, RowLoader
from bloomery.training.overlap import Overlap, _digest, _of_shards, overlap


def _shards(folder, splits):
    with ShardWriter(folder, vocab_size=300, bos_id=0, end_id=0) as writer:
        for split, documents in splits.items():
            writer.begin(split)
            for ids in documents:
                writer.add(split, [0, *ids], text_bytes=len(ids))
        writer.close()
    return {split: TokenShards(folder, split) for split in splits}


def test_documents(tmp_path):
    rng = np.random.default_rng(0)
    train = [rng.integers(1, 300, rng.integers(5, 40)).tolist() for _ in range(200)]
    near = [*train[7][:-1], train[7][-1] % 299 + 1]
    held_out = [train[3], train[150], near, [*train[9], 5], rng.integers(1, 300, 30).tolist()]
    made = _shards(tmp_path, {"train": train, "validation": held_out})
    found = _of_shards(made["train"], made["validation"])
    # The same by comparing every pair.
    assert found == Overlap(5, sum(one in train for one in held_out), "documents") and found.found == 2


def test_examples():
    texts = [LabelledText([i, i + 1], i % 2) for i in range(20)]
    net = MeanTextClassifier(MeanTextConfig(vocab_size=50))
    held_out = [LabelledText([3, 4], 1), LabelledText([3, 4], 0), LabelledText([40, 41], 0)]
    loader = ExampleLoader(texts, held_out, rows=4, seed=0)
    assert overlap(ClassificationObjective(net, loader, TextReader(0), seed=0)) == Overlap(3, 1, "examples")
    nothing = ExampleLoader(texts, [], rows=4, seed=0)
    assert overlap(ClassificationObjective(net, nothing, TextReader(0), seed=0)) is None


def test_rows_of_other_objectives(tmp_path):
    made = _shards(tmp_path, {"train": [[1, 2, 3, 4]] * 4, "validation": [[1, 2, 3, 4]]})
    loader = RowLoader(PackedRows(made["train"], context_length=8, seed=0), made["validation"])
    objective = ClassificationObjective.__new__(ClassificationObjective)
    objective.loader = loader
    assert overlap(objective) == Overlap(1, 1, "documents")


@pytest.mark.parametrize(
    ("one", "other"),
    [(["ab", "c"], ["a", "bc"]), ([[1], 2], [[1, 2]]), (np.zeros(2, "u1"), np.zeros(2, "i1")), ((1, 23), (12, 3))],
)
def test_different_values_differ(one, other):
    assert _digest(one) != _digest(other)
    assert _digest(one) == _digest(one)
