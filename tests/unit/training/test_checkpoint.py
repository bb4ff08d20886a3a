"""Checkpoints are whole or absent, and the newest sound one wins."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bloomery.core.errors import ArtifactError
from bloomery.training import checkpoint
from bloomery.training.pieces import Piece


def _save(folder: Path, step: int) -> Path:
    return checkpoint.save(
        folder,
        step,
        model={"w": torch.full((2, 3), float(step))},
        optimizer={"adamw.w.exp_avg": torch.ones(2, 3)},
        state={"rows": {"epoch": step}},
    )


def test_round_trip_and_keeps_two(tmp_path: Path):
    for step in (1, 2, 3):
        _save(tmp_path, step)
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 3 and found.state == {"rows": {"epoch": 3}}
    assert torch.equal(found.model["w"], torch.full((2, 3), 3.0))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_damage_falls_back_and_is_said(tmp_path: Path, name: str):
    _save(tmp_path, 1)
    damaged = _save(tmp_path, 2) / name
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 0x80
    damaged.write_bytes(data)
    warnings: list[str] = []
    found = checkpoint.latest(tmp_path, warn=warnings.append)
    assert found is not None and found.step == 1
    assert len(warnings) == 1 and "step-00000002" in warnings[0]


def test_truncated_and_missing(tmp_path: Path):
    assert checkpoint.latest(tmp_path) is None
    path = _save(tmp_path, 1)
    (path / "model.safetensors").unlink()
    assert checkpoint.latest(tmp_path) is None


def test_crash_before_rename_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _save(tmp_path, 1)

    def crash(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", crash)
    with pytest.raises(ArtifactError, match="last good one is kept") as caught:
        _save(tmp_path, 2)
    assert "free some space" in caught.value.hint
    monkeypatch.undo()
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 1
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


def test_partial_folder_of_a_killed_writer_is_ignored(tmp_path: Path):
    path = _save(tmp_path, 1)
    shutil.copytree(path, tmp_path / ".partial-step-00000002")
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 1
    _save(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]


def test_keeps_what_it_is_told_and_what_is_spared(tmp_path: Path):
    for step in range(1, 8):
        checkpoint.save(
            tmp_path, step, model={"w": torch.ones(1)}, optimizer={}, state={}, keep=3, spared=["step-00000002"]
        )
    assert sorted(p.name for p in tmp_path.iterdir()) == [checkpoint.name_of(step) for step in (2, 5, 6, 7)]


def test_a_run_that_went_back_is_newer_than_what_it_left(tmp_path: Path):
    for step, again in ((10, 0), (20, 0), (10, 1), (11, 1)):
        checkpoint.save(
            tmp_path, step, model={"w": torch.ones(1)}, optimizer={}, state={"s": step}, again=again, keep=9
        )
    found = checkpoint.latest(tmp_path)
    assert found is not None and (found.step, found.path.name) == (11, "step-00000011-again-01")
    assert [state["s"] for state in checkpoint.states(tmp_path)] == [10, 20, 10, 11]
    assert checkpoint.step_of("step-00000011-again-01") == 11
    assert checkpoint.load(tmp_path / "step-00000012") is None


@pytest.mark.parametrize("text", ["null", "[]", "{}", '{"step": 2, "sha256": [], "state": {}}'])
def test_a_state_that_is_none_is_passed_over(tmp_path: Path, text: str):
    _save(tmp_path, 1)
    damaged = _save(tmp_path, 2)
    (damaged / "state.json").write_text(text)
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 1
    assert checkpoint.load(damaged) is None
    assert len(list(checkpoint.states(tmp_path))) == (2 if "state" in text else 1)


def test_a_state_with_another_number_in_it_is_damaged(tmp_path: Path):
    """Still JSON, and nothing but its own hash tells."""
    _save(tmp_path, 1)
    path = _save(tmp_path, 2) / "state.json"
    path.write_text(path.read_text().replace('"epoch": 2', '"epoch": 3'))
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 1
    path.write_text(path.read_text().replace('"epoch": 3', '"epoch": 2').replace('"step": 2', '"step": 7'))
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 1


def test_what_was_just_written_stays_beside_a_damaged_later_one(tmp_path: Path):
    """A run that passed over step 9 goes on from step 2: its own checkpoints are no older than that one."""
    _save(tmp_path, 2)
    (_save(tmp_path, 9) / "model.safetensors").unlink()
    written = checkpoint.save(tmp_path, 3, model={"w": torch.ones(1)}, optimizer={}, state={}, keep=1)
    assert written.is_dir()
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 3


def test_all_but_the_newest_sound_one_can_go(tmp_path: Path):
    checkpoint.keep_one(tmp_path)
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, model={"w": torch.ones(1)}, optimizer={}, state={}, keep=9)
    (tmp_path / "step-00000003" / "state.json").write_text("torn")
    checkpoint.keep_one(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002"]


class _Writer:
    """One of two threads that write together."""

    told: list[object]

    def __init__(self, rank: int, barrier: threading.Barrier) -> None:
        self.rank, self.barrier = rank, barrier

    def everyone(self, own: object) -> list[object]:
        if self.rank == 0:
            type(self).told = [None, None]
        self.barrier.wait(10)
        self.told[self.rank] = own
        self.barrier.wait(10)
        told = list(self.told)
        self.barrier.wait(10)
        return told


def _save_together(folder: Path, step: int, other: Path | None = None) -> list[object]:
    """What two writers gave, or raised; the second may have another folder."""
    barrier, whole = threading.Barrier(2), torch.full((4, 3), float(step))

    def write(rank: int) -> object:
        try:
            return checkpoint.save(
                (other or folder) if rank else folder,
                step,
                model={"w": Piece(whole[2 * rank : 2 * rank + 2], (2 * rank, 0), (4, 3)), "norm": torch.ones(3)},
                optimizer={f"muon.{rank}.momentum": torch.ones(2)},
                state={"rank": rank},
                writers=_Writer(rank, barrier),
            )
        except Exception as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(write, (0, 1)))


def test_two_write_one_that_is_read_whole(tmp_path: Path):
    assert _save_together(tmp_path, 1) == [tmp_path / "step-00000001"] * 2
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.state == {"rank": 0}
    assert torch.equal(found.model["w"], torch.ones(4, 3)) and torch.equal(found.model["norm"], torch.ones(3))
    assert set(found.optimizer) == {"muon.0.momentum", "muon.1.momentum"}
    assert set(load_file(found.path / "model-00001.safetensors")) == {"w"}  # rank 0 has the rest


@pytest.mark.parametrize("name", ["model-00000.safetensors", "model-00001.safetensors", "optimizer-00001.safetensors"])
def test_damage_to_either_part_falls_back(tmp_path: Path, name: str):
    for step in (1, 2):
        _save_together(tmp_path, step)
    path = tmp_path / "step-00000002" / name
    path.write_bytes(path.read_bytes()[:-1])
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 1
    path.unlink()
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 1


@pytest.mark.parametrize("failing", [0, 1])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_where_one_cannot_write_neither_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, number: int
):
    _save_together(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "write_pieces", _failing({failing: number}))
    errors = _save_together(tmp_path, 2)
    assert [type(error) for error in errors] == [ArtifactError] * 2
    assert [error.__cause__.errno for error in errors] == [number] * 2
    assert str(errors[1 - failing]).startswith(f"rank {failing}: cannot write a checkpoint")
    assert errors[0].hint == errors[1].hint != ""
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_both_fail_for_the_reason_that_ends_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checkpoint, "write_pieces", _failing({0: errno.ENOSPC, 1: errno.EROFS}))
    assert [error.__cause__.errno for error in _save_together(tmp_path, 1)] == [errno.EROFS] * 2


def test_an_error_of_another_kind_is_heard_of_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checkpoint, "write_pieces", _failing({1: MemoryError("no memory left")}))
    errors = _save_together(tmp_path, 1)
    assert [type(error) for error in errors] == [ArtifactError, MemoryError]
    assert str(errors[0]) == "rank 1: no memory left"


def test_ranks_that_have_not_the_same_files(tmp_path: Path):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    errors = _save_together(home, 1, elsewhere)
    assert [error.hint for error in errors] == ["ranks need one file system"] * 2
    (elsewhere / ".partial-step-00000001").mkdir(parents=True)  # of another run, by chance
    errors = _save_together(home, 1, elsewhere)
    assert [error.hint for error in errors] == ["ranks need one file system"] * 2
    assert not list(home.iterdir())


def _failing(reasons: dict[int, int | Exception]):
    """A writer of tensors that fails for files of some ranks."""
    real = checkpoint.write_pieces

    def write(tensors: dict[str, torch.Tensor | Piece], path: Path) -> None:
        reason = reasons.get(int(path.stem.split("-")[1]))
        if isinstance(reason, int):
            raise OSError(reason, os.strerror(reason))
        if reason is not None:
            raise reason
        real(tensors, path)

    return write
