"""Who steps which matrix, and who has what of those that are divided."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard
from torch.testing._internal.distributed.fake_pg import FakeStore

from bloomery.training.parallel import matrices
from bloomery.training.parallel.matrices import owners, piece_of
from bloomery.training.pieces import Stored, own_share, write_pieces


def test_the_work_is_divided_evenly_and_the_same_everywhere():
    shapes = {f"layers.{n}.{name}": shape for n in range(6) for name, shape in _LAYER.items()}
    chosen = owners(shapes, 2)
    assert chosen.keys() == shapes.keys() and chosen == owners(dict(reversed(shapes.items())), 2)
    loads = [0.0, 0.0]
    for name, rank in chosen.items():
        rows, columns = shapes[name]
        loads[rank] += rows * columns * min(rows, columns)
    assert max(loads) / min(loads) < 1.05


def test_more_ranks_than_matrices():
    assert set(owners({"a": (4, 4), "b": (4, 4)}, 8).values()) == {0, 1}


_LAYER = {"q": (64, 64), "k": (32, 64), "o": (64, 64), "up": (192, 64), "down": (64, 192)}


@pytest.mark.parametrize("rows", [8, 7, 4, 3])
def test_pieces_of_what_is_sharded_make_it_whole(tmp_path: Path, rows: int):
    """This process is, one after another, each rank of four, two by two; PyTorch divides."""
    whole = {"twice": torch.randn(8, 5), "once": torch.randn(rows, 5), "columns": torch.randn(5, 2 * rows)}
    having = []
    for rank in range(4):
        dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=4)
        try:
            mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("batch", "tensor"))
            ways = {
                "twice": (mesh, [_StridedShard(0, split_factor=2), Shard(0)]),
                "once": (mesh["batch"], [Shard(0)]),
                "columns": (mesh, [Shard(0), Shard(1)]),
            }
            divided = {name: distribute_tensor(whole[name], *way, src_data_rank=None) for name, way in ways.items()}
            pieces = {name: piece_of(tensor) for name, tensor in divided.items()}
            having.append({name: one for name, one in pieces.items() if one is not None})
        finally:
            dist.destroy_process_group()
    told: list[list[str]] = []
    for one in having:
        own_share(one, 0, lambda keys: [told.append(keys) or keys])
    for rank, one in enumerate(having):
        write_pieces(own_share(one, rank, lambda keys: told), tmp_path / str(rank))
    found = Stored([tmp_path / str(rank) for rank in range(4)])
    assert found.keys() == whole.keys()
    for name, tensor in whole.items():
        assert torch.equal(found[name], tensor), name


def test_parts_that_are_no_blocks_are_rank_0s(monkeypatch: pytest.MonkeyPatch):
    """Seven rows, twice divided by two: what a rank has is not one after another."""
    whole = torch.randn(7, 5)
    monkeypatch.setattr(matrices, "full", lambda tensor: whole)  # there is nobody to collect from
    for rank in range(4):
        dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=4)
        try:
            mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("batch", "tensor"))
            way = [_StridedShard(0, split_factor=2), Shard(0)]
            piece = piece_of(distribute_tensor(whole, mesh, way, src_data_rank=None))
        finally:
            dist.destroy_process_group()
        assert piece is (None if rank else whole)
