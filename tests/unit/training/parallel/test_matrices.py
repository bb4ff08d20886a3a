"""Who steps which matrix."""

from __future__ import annotations

from bloomery.training.parallel.matrices import owners


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
