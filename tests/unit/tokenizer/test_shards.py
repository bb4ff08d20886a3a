"""Shards: what is written is read back, and damage is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import DataError
from bloomery.tokenizer.shards import ShardWriter, TokenShards, token_dtype

DOCUMENTS = [[5, 6, 7], [], [8], [9] * 300]


def write(folder: Path, documents=DOCUMENTS, *, end_id: int = 0, vocab_size: int = 512, shard_bytes: int = 1 << 20):
    writer = ShardWriter(folder, vocab_size=vocab_size, bos_id=0, end_id=end_id, shard_bytes=shard_bytes)
    writer.begin("train")
    for ids in documents:
        writer.add("train", ids, text_bytes=2 * len(ids))
    writer.begin("test")
    return writer.close()


def test_counts_and_documents(tmp_path: Path):
    counts = write(tmp_path)
    assert counts["train"] == {"documents": 4, "tokens": 308, "text_bytes": 608}
    assert counts["test"] == {"documents": 0, "tokens": 0, "text_bytes": 0}
    shards = TokenShards(tmp_path, "train")
    assert (shards.num_documents, shards.num_tokens, shards.text_bytes) == (4, 308, 608)
    assert shards.document(0).tolist() == [0, 5, 6, 7]
    assert [shards.document_bytes(i) for i in range(4)] == [6, 0, 2, 600]
    assert TokenShards(tmp_path, "test").num_documents == 0


@pytest.mark.parametrize(("end_id", "tail"), [(0, [0]), (3, [3])])
def test_labels_end_with_the_end_marker(tmp_path: Path, end_id: int, tail: list[int]):
    write(tmp_path, end_id=end_id, shard_bytes=8)
    shards = TokenShards(tmp_path, "train")
    for index, ids in enumerate(DOCUMENTS):
        count = int(shards.num_labels()[index])
        assert shards.labels(index, 0, count).tolist() == ids + tail
    assert len(list(tmp_path.glob("train-*.bin"))) > 1


@settings(max_examples=40, deadline=None)
@given(
    documents=st.lists(st.lists(st.integers(0, 70_000), max_size=30), max_size=12),
    shard_bytes=st.sampled_from([1, 64, 1 << 20]),
)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]], shard_bytes: int):
    folder = tmp_path_factory.mktemp("shards")
    write(folder, documents, vocab_size=70_001, shard_bytes=shard_bytes)
    shards = TokenShards(folder, "train")
    assert shards.dtype == np.dtype("<u4")
    assert [shards.document(i).tolist() for i in range(len(documents))] == [[0, *ids] for ids in documents]
    assert int(shards.num_labels().sum()) == sum(len(ids) + 1 for ids in documents)


def test_dtype_by_vocabulary():
    assert token_dtype(65_536) == np.dtype("<u2")
    assert token_dtype(65_537) == np.dtype("<u4")


def test_an_id_outside_the_vocabulary_is_not_written(tmp_path: Path):
    with pytest.raises(DataError, match="outside the vocabulary"):
        write(tmp_path, [[512]])


def test_a_truncated_shard_is_named(tmp_path: Path):
    write(tmp_path)
    path = tmp_path / "train-00000.bin"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match=r"train-00000\.bin .*truncated"):
        TokenShards(tmp_path, "train")


def test_an_id_out_of_range_is_named(tmp_path: Path):
    write(tmp_path)
    path = tmp_path / "train-00000.bin"
    path.write_bytes(b"\xff\xff" + path.read_bytes()[2:])
    with pytest.raises(DataError, match=r"train-00000\.bin is damaged: token id 65535"):
        TokenShards(tmp_path, "train").check()


@pytest.mark.parametrize("name", ["tokens.json", "train-00000.bin", "train-offsets.npy", "train-bytes.npy"])
@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00garbage", b'{"format": 1, "splits": {"train": {}}}'])
def test_damaged_files_are_data_errors(tmp_path: Path, name: str, content: bytes):
    write(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        TokenShards(tmp_path, "train")
    assert name in caught.value.message
    assert "\n" not in caught.value.one_line()


@pytest.mark.parametrize("name", ["tokens.json", "train-00000.bin", "train-offsets.npy"])
def test_missing_files_are_data_errors(tmp_path: Path, name: str):
    write(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        TokenShards(tmp_path, "train")


def test_offsets_that_point_elsewhere_are_data_errors(tmp_path: Path):
    write(tmp_path)
    path = tmp_path / "train-offsets.npy"
    offsets = np.load(path)
    offsets[1], offsets[2] = offsets[2], offsets[1]
    np.save(path, offsets)
    with pytest.raises(DataError, match="train-offsets"):
        TokenShards(tmp_path, "train")


def test_pickled_offsets_are_refused(tmp_path: Path):
    write(tmp_path)
    np.save(tmp_path / "train-offsets.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="train-offsets"):
        TokenShards(tmp_path, "train")


def test_a_file_outside_the_folder_is_refused(tmp_path: Path):
    write(tmp_path)
    meta = json.loads((tmp_path / "tokens.json").read_text())
    meta["splits"]["train"]["shards"][0]["file"] = "../train-00000.bin"
    (tmp_path / "tokens.json").write_text(json.dumps(meta))
    with pytest.raises(DataError, match="outside its folder"):
        TokenShards(tmp_path, "train")


def test_an_unknown_split_lists_the_known(tmp_path: Path):
    write(tmp_path)
    with pytest.raises(DataError, match="no split 'dev'") as caught:
        TokenShards(tmp_path, "dev")
    assert "train, test" in caught.value.hint
