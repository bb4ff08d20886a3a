"""The heat map in characters."""

from __future__ import annotations

import io

from rich.console import Console

from bloomery.cli.heat_map import heat_map, pool

ROWS = [[1.0, 0.0, 0.0], [0.35, 0.65, 0.0], [0.01, 0.15, 0.05]]


def test_a_cell_is_two_characters():
    lines = [line.plain for line in heat_map(ROWS, ["a", "bb", "c"], chosen=1)]
    assert lines[0].strip() == "0"
    assert lines[1] == "  a  ██    "
    assert lines[2] == "> bb ▓▓██  "
    assert lines[3] == "  c   ·▒▒░░"


def test_it_fits_the_width():
    wide = [[0.0] * 90 for _ in range(90)]
    wide[89][89] = 0.9
    lines = heat_map(wide, [f"t{n}" for n in range(90)], chosen=89, width=60)
    assert all(line.cell_len <= 60 for line in lines)
    assert lines[-2].plain.endswith("██") and lines[-2].plain.startswith(">")
    assert lines[0].plain.split()[:2] == ["0", "20"]  # four keys a column, every fifth column numbered
    assert lines[-1].plain == "each cell is the largest of 4 x 4 weights"
    again = heat_map(wide, [f"t{n}" for n in range(90)], width=60, blocks=(2, 3))
    assert again[0].plain.split()[:2] == ["0", "60"] and again[-1].plain.endswith("8 x 12 weights")


def test_pooled_cells_are_the_largest():
    cells, down, across = pool(ROWS, 2)
    assert (cells, down, across) == ([[1.0, 0.0], [0.15, 0.05]], 2, 2)
    assert pool(ROWS, 3) == (ROWS, 1, 1)


def test_colours_only_on_a_terminal():
    for terminal in (True, False):
        out = io.StringIO()
        Console(file=out, force_terminal=terminal, color_system="standard" if terminal else None).print(
            *heat_map(ROWS, ["a", "b", "c"])
        )
        assert ("\x1b[" in out.getvalue()) == terminal
