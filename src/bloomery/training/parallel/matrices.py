"""Who orthogonalises which matrix: Muon's work, divided among ranks that have the same gradients or parts of them.

Newton-Schulz needs a matrix whole, and for small batches it is much of a step. Each rank takes some matrices of every
shape, steps them, and gives them to the others; the state of a matrix lies with its owner alone. Where a parameter is a
DTensor (sharded), its owner keeps the whole matrix too: 1/size of all, as much as its shards. The result is Muon's own.

This module does not know how Muon steps. Shapes are those of the matrices.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bloomery.training.optimizers import Optimizers
from bloomery.training.pieces import Piece

_MUON, _ADAMW = "muon", "adamw"


def full(tensor: Tensor) -> Tensor:
    """A tensor whole: collected from all ranks if it is sharded (a DTensor), which all of them must ask for."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def is_sharded(tensor: object) -> bool:
    """Whether it is a DTensor; does not load what makes them, which takes as long as half of PyTorch."""
    return hasattr(tensor, "full_tensor")


def part_for(whole: Tensor, parameter: Tensor) -> Tensor:
    """Of a whole tensor what a sharded parameter of the same shape has here: a DTensor."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(parameter, DTensor)
    whole = whole.to(parameter.device)
    return distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)


def piece_of(tensor: Tensor) -> Tensor | Piece | None:
    """What this rank has of a tensor that may be sharded; None if nothing. All ranks ask: where parts are no blocks,
    they are collected, and rank 0 has the whole on its CPU."""
    from torch.distributed.tensor import DTensor, Shard
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    if not isinstance(tensor, DTensor):
        return tensor
    mesh, placements, shape = tensor.device_mesh, tensor.placements, tuple(tensor.shape)
    cut = [(n, placed) for n, placed in enumerate(placements) if not placed.is_replicate()]
    for dimension in range(tensor.ndim):
        ways = [(mesh.size(n), placed) for n, placed in cut if getattr(placed, "dim", None) == dimension]
        # Divided twice along one dimension, the later first: only equal parts of equal parts are blocks.
        if any(type(placed) is not Shard for _, placed in ways) and shape[dimension] % math.prod(n for n, _ in ways):
            whole = full(tensor)
            return whole.cpu() if dist.get_rank() == 0 else None
    _, start = compute_local_shape_and_global_offset(tensor.shape, mesh, placements)
    part = tensor.to_local()
    return Piece(part, tuple(start), shape) if part.numel() or not math.prod(shape) else None


def owners(shapes: Mapping[str, tuple[int, ...]], size: int) -> dict[str, int]:
    """The rank that steps each matrix: the costliest first, each to who has least to do; the same on every rank."""
    load = [0.0] * size

    def cost(name: str) -> float:
        rows, columns = shapes[name][-2:]
        return float(rows * columns * min(rows, columns))

    chosen: dict[str, int] = {}
    for name in sorted(shapes, key=lambda name: (-cost(name), shapes[name], name)):
        rank = min(range(size), key=lambda r: (load[r], r))
        chosen[name] = rank
        load[rank] += cost(name)
    return chosen


class SharedMatrices:
    """The matrices of one model's Muon, divided among all ranks of the default group; where they are sharded, those of
    every optimiser that is not AdamW, which alone steps a tensor's parts by themselves."""

    def __init__(self, optimizers: Optimizers, rank: int, size: int) -> None:
        self.optimizers, self.rank, self.size = optimizers, rank, size
        self._sharded = any(is_sharded(p) for p in optimizers.named.values())
        divided = [label for label in optimizers.parts if (label != _ADAMW if self._sharded else label == _MUON)]
        names = {id(parameter): name for name, parameter in optimizers.named.items()}
        self.part_of = {
            names[id(parameter)]: label
            for label in divided
            for group in optimizers.parts[label].param_groups
            for parameter in group["params"]
        }
        self.named = {name: p for name, p in optimizers.named.items() if name in self.part_of}
        self.owner = owners({name: tuple(p.shape) for name, p in self.named.items()}, size)
        self._whole: dict[str, Tensor] = {}
        """Whole matrices of ours whose parameters are sharded."""
        for name, parameter in self.named.items():
            if is_sharded(parameter):
                whole = full(parameter)
                if self.owner[name] == rank:
                    self._whole[name] = nn.Parameter(whole.detach().clone())
        if self._sharded:
            for label in divided:
                for group in optimizers.parts[label].param_groups:
                    self._keep_ours(group, names)

    def _keep_ours(self, group: dict[str, Any], names: Mapping[int, str]) -> None:
        """Let a group of an optimiser have our matrices only, whole; others' have no gradient."""
        kept = [names[id(parameter)] for parameter in group["params"]]
        kept = [name for name in kept if self.owner[name] == self.rank]
        group["params"] = [self._mine(name) for name in kept]
        if "param_names" in group:
            group["param_names"] = kept

    def step(self, multiplier: float) -> None:
        """One update of everything: AdamW's parameters by all, matrices by their owners."""
        for name, parameter in self.named.items():
            if is_sharded(parameter):
                whole = None if parameter.grad is None else full(parameter.grad)
                if name in self._whole:
                    self._whole[name].grad = whole
            elif self.owner[name] != self.rank:
                parameter.grad = None
        self.optimizers.step(multiplier)
        for parameter in self.named.values():
            parameter.grad = None
        self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        """Give the stepped matrices to the others: all of a rank in one buffer."""
        for rank, names in self._by_owner():
            first = self.named[names[0]]
            sizes = [self.named[name].numel() for name in names]
            buffer = torch.empty(sum(sizes), dtype=first.dtype, device=first.device)
            if rank == self.rank:
                torch.cat([self._mine(name).reshape(-1) for name in names], out=buffer)
            dist.broadcast(buffer, src=rank)
            if rank == self.rank and not self._sharded:
                continue
            for name, part in zip(names, buffer.split(sizes), strict=True):
                self.put(self.named[name], part.view(self.named[name].shape))

    def _mine(self, name: str) -> Tensor:
        return self._whole.get(name, self.named[name])

    def _by_owner(self) -> Iterable[tuple[int, list[str]]]:
        for rank in range(self.size):
            names = [name for name in self.named if self.owner[name] == rank]
            if names:
                yield rank, names

    @staticmethod
    @torch.no_grad()
    def put(parameter: Tensor, whole: Tensor) -> None:
        """Write a whole tensor into a parameter, or its part into a shard."""
        if is_sharded(parameter):
            parameter.copy_(part_for(whole, parameter))
        else:
            parameter.copy_(whole)

    def renew(self) -> None:
        """Take the whole matrices from parameters that were loaded."""
        for name, parameter in self.named.items():
            if is_sharded(parameter):
                whole = full(parameter)
                if name in self._whole:
                    self._whole[name].data.copy_(whole)

    def state_pieces(self) -> dict[str, Tensor | Piece]:
        """What this rank has of the state of everything; all ask (see `piece_of`)."""
        found: dict[str, Tensor | Piece] = {}
        for name, parameter in self.optimizers.named.items():
            for label, part in self.optimizers.parts.items():
                divided = self.part_of.get(name) == label
                if divided and self.owner[name] != self.rank:
                    continue
                for slot, value in part.state.get(self._mine(name) if divided else parameter, {}).items():
                    if (piece := piece_of(value)) is not None:
                        found[f"{label}.{name}.{slot}"] = piece
        return found

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take of whole tensors what this rank needs. DataError as `Optimizers.load_state_tensors`."""
        rest: dict[str, Tensor] = {}
        for key in tensors:
            label, _, tail = key.partition(".")
            name, _, slot = tail.rpartition(".")
            if self.part_of.get(name) != label:
                rest[key] = sharded_like(tensors[key], self.optimizers.named.get(name))
            elif self.owner[name] == self.rank:
                mine = self._mine(name)
                device = torch.device("cpu") if slot == "step" else mine.device  # where Muon counts
                self.optimizers.parts[label].state[mine][slot] = tensors[key].to(device, copy=True)
        self.optimizers.load_state_tensors(rest)


def sharded_like(value: Tensor, parameter: Tensor | None) -> Tensor:
    """A whole tensor, or this rank's part of it where it belongs to a sharded parameter of its shape."""
    if parameter is not None and is_sharded(parameter) and value.shape == parameter.shape:
        return part_for(value, parameter)
    return value
