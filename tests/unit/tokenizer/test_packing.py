"""Packing: nothing lost, BOS first, resumed exactly, and better than first come, first served."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError, DataError
from bloomery.tokenizer.packing import IGNORED, PackedRows, evaluation_rows
from bloomery.tokenizer.shards import ShardWriter, TokenShards

BOS, END = 0, 1


def make_shards(folder: Path, lengths: list[int], *, end_id: int = BOS, distinct: bool = False) -> TokenShards:
    """Documents of these lengths; with `distinct` every token has an id of its own."""
    rng = np.random.default_rng(0)
    writer = ShardWriter(folder, vocab_size=1 << 20, bos_id=BOS, end_id=end_id, shard_bytes=4096)
    writer.begin("train")
    following = 2
    for length in lengths:
        ids = np.arange(following, following + length) if distinct else rng.integers(2, 4096, length)
        following += length if distinct else 0
        writer.add("train", ids.tolist(), text_bytes=length)
    writer.close()
    return TokenShards(folder, "train")


def one_epoch(packed: PackedRows) -> tuple[np.ndarray, np.ndarray]:
    epoch, rows = packed.epoch, []
    while packed.epoch == epoch:
        rows.append(packed.next_batch(1))
    return np.concatenate([row[0] for row in rows]), np.concatenate([row[1] for row in rows])


LENGTHS = st.lists(st.integers(0, 90), min_size=1, max_size=25).filter(any)


@settings(max_examples=60, deadline=None)
@given(
    lengths=LENGTHS, context_length=st.integers(8, 40), buffer=st.integers(1, 30), end_id=st.sampled_from([BOS, END])
)
def test_every_token_is_a_label_exactly_once_an_epoch(tmp_path_factory, lengths, context_length, buffer, end_id):
    shards = make_shards(tmp_path_factory.mktemp("s"), lengths, end_id=end_id, distinct=True)
    packed = PackedRows(shards, context_length=context_length, seed=3, buffer_documents=buffer)
    content = sum(lengths)
    for _ in range(2):
        input_ids, labels = one_epoch(packed)
        seen = Counter(labels[labels != IGNORED].tolist())
        ends = seen.pop(end_id)
        assert seen == dict.fromkeys(range(2, 2 + content), 1)
        assert ends == sum(1 for length in lengths if length)  # a document without text is left out
        assert (input_ids[:, 0] == BOS).all()
        check_inputs(input_ids, labels)


def check_inputs(input_ids: np.ndarray, labels: np.ndarray) -> None:
    """An input is BOS or the label of the position before; what is padded is padded to the end."""
    for inputs, targets in zip(input_ids, labels, strict=True):
        filled = int((targets != IGNORED).sum())
        assert (targets[filled:] == IGNORED).all() and (inputs[filled:] == 0).all()
        for position in range(1, filled):
            assert inputs[position] in (BOS, targets[position - 1])


@settings(max_examples=40, deadline=None)
@given(
    lengths=LENGTHS,
    context_length=st.integers(8, 40),
    buffer=st.integers(1, 30),
    before=st.lists(st.integers(1, 7), max_size=12),
    after=st.lists(st.integers(1, 7), min_size=1, max_size=12),
)
def test_resume_is_exact(tmp_path_factory, lengths, context_length, buffer, before, after):
    shards = make_shards(tmp_path_factory.mktemp("s"), lengths)

    def fresh() -> PackedRows:
        return PackedRows(shards, context_length=context_length, seed=5, buffer_documents=buffer)

    packed = fresh()
    for rows in before:
        packed.next_batch(rows)
    resumed = fresh()
    resumed.next_batch(2)  # whatever it did before is forgotten
    resumed.load_state_dict(json.loads(json.dumps(packed.state_dict())))
    for rows in after:
        for mine, other in zip(packed.next_batch(rows), resumed.next_batch(rows), strict=True):
            np.testing.assert_array_equal(mine, other)
    assert packed.stats == resumed.stats and packed.epoch == resumed.epoch
    assert packed.state_dict() == resumed.state_dict()


def test_resume_inside_a_large_epoch(tmp_path: Path):
    """The order is worked out in blocks of segments: a position in the middle of a later block resumes too."""
    shards = make_shards(tmp_path, [3] * 20_000)
    packed = PackedRows(shards, context_length=16, seed=0)
    packed.next_batch(1500)
    resumed = PackedRows(shards, context_length=16, seed=0)
    resumed.load_state_dict(json.loads(json.dumps(packed.state_dict())))
    np.testing.assert_array_equal(packed.next_batch(2000)[1], resumed.next_batch(2000)[1])


def test_a_state_of_other_data_is_refused(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    packed = PackedRows(make_shards(tmp_path / "a", [20, 30]), context_length=16, seed=0)
    other = PackedRows(make_shards(tmp_path / "b", [20, 31]), context_length=16, seed=0)
    with pytest.raises(ConfigError, match="tokens differ"):
        other.load_state_dict(packed.state_dict())


def test_seed_and_epoch_move_the_order_and_the_cuts(tmp_path: Path):
    """Even one long document gives other chunks in every epoch, all of them shuffled."""
    shards = make_shards(tmp_path, [5000], distinct=True)
    packed = PackedRows(shards, context_length=64, seed=0)
    first, second = one_epoch(packed)[1], one_epoch(packed)[1]
    other = one_epoch(PackedRows(shards, context_length=64, seed=1))[1]
    again = one_epoch(PackedRows(shards, context_length=64, seed=0))[1]
    np.testing.assert_array_equal(first, again)

    def starts(labels: np.ndarray) -> set[int]:
        return {int(row[0]) % 64 for row in labels if row[-1] != IGNORED and row[-1] - row[0] == 63}

    assert starts(first) != starts(second) and starts(first) != starts(other)
    assert np.count_nonzero(np.diff(first[:, 0]) < 0) > 10


def first_come(lengths: np.ndarray, context_length: int) -> float:
    """Cropped share of the same documents in order, laid end to end and cut at every row's end."""
    cropped = labels = position = 0
    for length in lengths:
        left, start = int(length), True
        while left:
            take = min(left, context_length - position % context_length)
            cropped += 0 if start else take
            labels, left, position, start = labels + take, left - take, position + take, False
    return cropped / labels


@pytest.mark.parametrize(("median", "context_length"), [(40, 256), (100, 256), (100, 1024)])
def test_best_fit_crops_less_than_first_come(tmp_path: Path, median: int, context_length: int):
    lengths = np.random.default_rng(1).lognormal(np.log(median), 0.8, 3000).astype(int)
    shards = make_shards(tmp_path, lengths.tolist())
    packed = PackedRows(shards, context_length=context_length, seed=0)
    one_epoch(packed)
    naive = first_come(shards.num_labels(), context_length)
    assert packed.stats["cropped_share"] < 0.7 * naive
    assert packed.stats["padded_share"] < 0.02


def test_stats_add_up(tmp_path: Path):
    shards = make_shards(tmp_path, [5, 200, 17, 60, 3])
    packed = PackedRows(shards, context_length=32, seed=0)
    _, labels = one_epoch(packed)
    stats = packed.stats
    assert stats["positions"] == labels.size == stats["labels"] + stats["padded"]
    assert stats["labels"] == int((labels != IGNORED).sum()) == int(shards.num_labels().sum())
    assert stats["padded_share"] == stats["padded"] / labels.size


@pytest.mark.parametrize("end_id", [BOS, END])
def test_evaluation_covers_every_token_once_in_order(tmp_path: Path, end_id: int):
    shards = make_shards(tmp_path, [0, 5, 200, 17, 60, 3], end_id=end_id, distinct=True)
    batches = list(evaluation_rows(shards, 32, 4))
    assert all(batch[0].shape == batch[1].shape == (4, 32) for batch in batches)
    labels = np.concatenate([batch[1] for batch in batches])
    expected = [shards.labels(i, 0, int(n)).tolist() for i, n in enumerate(shards.num_labels())]
    flat = labels.ravel()
    assert flat[flat != IGNORED].tolist() == [token for document in expected for token in document]
    assert (flat[: int((flat != IGNORED).sum())] != IGNORED).all()
    check_inputs(np.concatenate([batch[0] for batch in batches]), labels)


def test_evaluation_of_rows_that_fill_exactly(tmp_path: Path):
    shards = make_shards(tmp_path, [31] * 8)
    batches = list(evaluation_rows(shards, 32, 4))
    assert len(batches) == 2 and all((batch[1] != IGNORED).all() for batch in batches)


def test_an_id_out_of_range_names_its_file(tmp_path: Path):
    shards = make_shards(tmp_path, [50] * 4)
    path = tmp_path / "train-00000.bin"
    path.write_bytes(path.read_bytes()[:8] + b"\xff\xff\xff\x7f" + path.read_bytes()[12:])
    shards = TokenShards(tmp_path, "train")
    with pytest.raises(DataError, match=r"train-00000\.bin"):
        PackedRows(shards, context_length=16, seed=0).next_batch(40)
    with pytest.raises(DataError, match=r"train-00000\.bin"):
        list(evaluation_rows(shards, 16, 2))


def test_bad_arguments(tmp_path: Path):
    shards = make_shards(tmp_path, [9])
    with pytest.raises(ConfigError, match="context_length"):
        PackedRows(shards, context_length=4, seed=0)
    with pytest.raises(ConfigError, match="buffer_documents"):
        PackedRows(shards, context_length=16, seed=0, buffer_documents=0)
    with pytest.raises(ConfigError, match="evaluation"):
        next(evaluation_rows(shards, 16, 0))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no document with text"):
        PackedRows(make_shards(tmp_path / "empty", [0, 0]), context_length=16, seed=0)


def test_packing_is_fast(tmp_path: Path):
    """A million tokens a second is far more than a small machine trains on; a tenth of it allows for a busy one."""
    lengths = np.random.default_rng(2).lognormal(np.log(150), 1.0, 2000).astype(int) + 1
    packed = PackedRows(make_shards(tmp_path, lengths.tolist()), context_length=256, seed=0)
    packed.next_batch(1)
    began = time.perf_counter()
    packed.next_batch(1000)
    assert 256_000 / (time.perf_counter() - began) > 100_000
