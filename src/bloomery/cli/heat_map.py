"""A heat map of attention weights in characters, for a terminal with colours and for plain text alike.

Darker is more; a blank cell is a key that the query cannot see. A picture wider than the terminal is pooled to the
largest weight of each block. This module does not know where weights come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

_STEPS = ((0.6, "█", "bright_white"), (0.3, "▓", "bright_yellow"), (0.1, "▒", "yellow"), (0.02, "░", "red"))
LEGEND = "█ from .6  ▓ from .3  ▒ from .1  ░ from .02  · less"


def pool(weights: Sequence[Sequence[float]], limit: int) -> tuple[list[list[float]], int, int]:
    """(the largest weights of blocks in at most `limit` rows and columns, rows of a block, columns of a block)."""
    down, across = -(-len(weights) // limit), -(-len(weights[0]) // limit)
    found = []
    for start in range(0, len(weights), down):
        block = weights[start : start + down]
        columns = range(0, len(weights[0]), across)
        found.append([max(max(row[column : column + across]) for row in block) for column in columns])
    return found, down, across


def heat_map(
    weights: Sequence[Sequence[float]],
    labels: Sequence[str],
    *,
    chosen: int | None = None,
    width: int = 80,
    blocks: tuple[int, int] = (1, 1),
) -> list[Text]:
    """Lines: a row a query with its label, two characters a key, numbers of the keys above. `chosen` is marked.

    `blocks` is how many queries and keys one of the `weights` stands for; a last line says it of what is shown.
    """
    from rich.text import Text

    margin = max(map(len, labels), default=0) + 3
    cells, down, across = pool(weights, max(1, (width - margin) // 2))
    numbers = "".join(f"{column * across * blocks[1]:<10}" for column in range(0, len(cells[0]), 5))
    lines = [Text(f"{' ' * margin}{numbers.rstrip()}", style="dim")]
    for number, row in enumerate(cells):
        first = number * down
        marked = chosen is not None and first <= chosen < first + down
        line = Text(f"{'>' if marked else ' '} {labels[first]:<{margin - 3}} ", style="bold" if marked else "")
        for weight in row:
            line.append(*_cell(weight))
        lines.append(line)
    rows, columns = down * blocks[0], across * blocks[1]
    if rows > 1 or columns > 1:
        lines.append(Text(f"each cell is the largest of {rows} x {columns} weights", style="dim"))
    return lines


def _cell(weight: float) -> tuple[str, str]:
    """Characters and colour."""
    for least, character, style in _STEPS:
        if weight >= least:
            return character * 2, style
    return (" ·", "dim") if weight > 0 else ("  ", "")
