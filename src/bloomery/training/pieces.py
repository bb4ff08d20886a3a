"""Pieces: tensors of which each process has a part, written by each to a file of its own and read whole, by name.

A file is safetensors; where its parts belong stands in its metadata, as JSON:

    "pieces": {"model.layers.0.mlp.up.weight": [[128, 0], [256, 64]]}      first element, shape of the whole

A tensor without an entry there is whole. Whoever reads needs the memory for one whole tensor at a time, whatever the
number of processes that wrote. This module does not know models, optimisers, nor what divides a tensor.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bloomery.models.weights import write_tensors

_PIECES = "pieces"


@dataclass(frozen=True)
class Piece:
    """A block of a tensor: `part` begins at element `start` of a whole of this `shape`."""

    part: Tensor
    start: tuple[int, ...]
    shape: tuple[int, ...]


def part_of(having: Tensor | Piece) -> Tensor:
    """What this process has of it."""
    return having.part if isinstance(having, Piece) else having


def own_share(
    having: Mapping[str, Tensor | Piece], rank: int, everyone: Callable[[Any], list[Any]]
) -> dict[str, Tensor | Piece]:
    """Of what this rank has, what no lower one has as well. `everyone` gives what each rank says to all."""
    keys = {name: json.dumps([name, *(one.start if isinstance(one, Piece) else ())]) for name, one in having.items()}
    first: dict[str, int] = {}
    for other, told in enumerate(everyone(list(keys.values()))):
        for key in told:
            first.setdefault(key, other)
    return {name: one for name, one in having.items() if first[keys[name]] == rank}


def write_pieces(tensors: Mapping[str, Tensor | Piece], path: Path) -> None:
    """Write what this process has of some tensors and flush it to disk; OSError as `write_tensors`."""
    parts = {name: part_of(one).detach().cpu().contiguous() for name, one in tensors.items()}
    places = {name: [list(one.start), list(one.shape)] for name, one in tensors.items() if isinstance(one, Piece)}
    write_tensors(parts, path, {_PIECES: json.dumps(places)} if places else {})


class Stored(Mapping[str, Tensor]):
    """Whole tensors on the CPU by name, read from files when they are asked for.

    ValueError if the files' pieces do not make whole tensors.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._places: dict[str, list[tuple[Path, Piece]]] = {}
        for path in paths:
            for name, piece in _contents(path):
                self._places.setdefault(name, []).append((path, piece))
        for name, places in self._places.items():
            pieces = [piece for _, piece in places]
            shape, elements = pieces[0].shape, sum(piece.part.numel() for piece in pieces)
            if {piece.shape for piece in pieces} != {shape} or elements != math.prod(shape):
                raise ValueError(f"the parts of {name} do not make a whole")

    def __getitem__(self, name: str) -> Tensor:
        places = self._places[name]
        if len(places) == 1:
            return _read(places[0][0], name)
        whole = torch.empty(places[0][1].shape, dtype=places[0][1].part.dtype)
        for path, piece in places:
            whole[_block(piece)] = _read(path, name)
        return whole

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _contents(path: Path) -> Iterator[tuple[str, Piece]]:
    """The names in a file and where each part belongs; the parts have no memory (device meta)."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        places = json.loads((file.metadata() or {}).get(_PIECES, "{}"))
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            found = file.get_slice(name)
            own = tuple(found.get_shape())
            start, shape = (tuple(map(int, place)) for place in places.get(name, ([0] * len(own), own)))
            if not len(own) == len(start) == len(shape) or any(
                a < 0 or a + n > all_ for a, n, all_ in zip(start, own, shape, strict=True)
            ):
                raise ValueError(f"the part of {name} lies outside of the whole")
            dtype = found[tuple(slice(0, 0) for _ in own)].dtype if own else file.get_tensor(name).dtype
            yield name, Piece(torch.empty(own, dtype=dtype, device="meta"), start, shape)


def _read(path: Path, name: str) -> Tensor:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return file.get_tensor(name)


def _block(piece: Piece) -> tuple[slice, ...]:
    return tuple(slice(a, a + n) for a, n in zip(piece.start, piece.part.shape, strict=True))
