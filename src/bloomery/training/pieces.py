"""Pieces: tensors of which each process has a part, written by each to a file of its own and read whole, by name.

A file is safetensors; where its parts belong stands in its metadata, as JSON:

    "pieces": {"model.layers.0.mlp.up.weight": [[128, 0], [256, 64]]}      first element, shape of the whole

A tensor without an entry there is whole. Who asks for one tensor after another needs the memory for one whole tensor at
a time, however many processes wrote. This module does not know models, optimisers, nor what divides a tensor.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
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


@dataclass(frozen=True)
class _Place:
    """Where a part is, and where in the whole of `shape` it belongs."""

    file: Any
    start: tuple[int, ...]
    size: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str

    @property
    def block(self) -> tuple[slice, ...]:
        return tuple(slice(a, a + n) for a, n in zip(self.start, self.size, strict=True))

    def meets(self, other: _Place) -> bool:
        """Whether both have an element of the whole."""
        mine = zip(self.start, self.size, other.start, other.size, strict=True)
        return all(a < b + m and b < a + n for a, n, b, m in mine)


class Stored(Mapping[str, Tensor]):
    """Whole tensors on the CPU by name, read from files when they are asked for. The files stay open: they may be
    removed meanwhile.

    ValueError for a file that is damaged, or if the files' pieces do not make whole tensors.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._places: dict[str, list[_Place]] = {}
        for path in paths:
            for name, place in _contents(path):
                self._places.setdefault(name, []).append(place)
        for name, places in self._places.items():
            shape, elements = places[0].shape, sum(math.prod(place.size) for place in places)
            apart = not any(one.meets(other) for one, other in combinations(places, 2))
            if len({(place.shape, place.dtype) for place in places}) > 1 or elements != math.prod(shape) or not apart:
                raise ValueError(f"the parts of {name} do not make a whole")

    def __getitem__(self, name: str) -> Tensor:
        first, *others = self._places[name]
        part = first.file.get_tensor(name)
        if not others:
            return part
        whole = torch.empty(first.shape, dtype=part.dtype)
        whole[first.block] = part
        for place in others:
            whole[place.block] = place.file.get_tensor(name)
        return whole

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _contents(path: Path) -> Iterator[tuple[str, _Place]]:
    from safetensors import SafetensorError, safe_open

    try:
        file: Any = safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{path.name}: {error}") from error
    places = json.loads((file.metadata() or {}).get(_PIECES, "{}"))
    if not isinstance(places, dict):
        raise ValueError(f"{path.name} does not say where its parts belong")
    for name in file.keys():  # noqa: SIM118 - it is no mapping
        found = file.get_slice(name)
        size = tuple(found.get_shape())
        start, shape = _read_place(places.get(name, [[0] * len(size), size]))
        inside = len(size) == len(start) == len(shape) and all(
            0 <= a <= whole - n for a, n, whole in zip(start, size, shape, strict=True)
        )
        if not inside:
            raise ValueError(f"the part of {name} lies outside of the whole")
        yield name, _Place(file, start, size, shape, found.get_dtype())


def _read_place(place: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(start, shape); ValueError for what is none."""
    if not isinstance(place, list) or len(place) != 2 or not all(isinstance(part, list | tuple) for part in place):
        raise ValueError("a part belongs nowhere")
    if not all(type(number) is int for part in place for number in part):
        raise ValueError("a part belongs nowhere")
    return tuple(place[0]), tuple(place[1])
