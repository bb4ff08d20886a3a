"""What the verbs of `bloomery inspect` share: the model, the texts, and how tokens and tables are shown.

This module does not know what is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from bloomery.cli.options import MODEL_KINDS

if TYPE_CHECKING:
    from rich.table import Table

    from bloomery.core.workspace import Workspace
    from bloomery.engine.glass_box import GlassBox

ModelName = Annotated[
    str, Parameter(help="A model: artifact name or id, a Hugging Face folder, or a hub id [default: the latest].")
]
Text = Annotated[str, Parameter(help="The text that the model reads.")]
Target = Annotated[str | None, Parameter(help="What an encoder-decoder has written so far (its start token is added).")]
Top = Annotated[int, Parameter(help="How many of the most probable.")]
PRESET = "How are you?"
_LABEL_CHARACTERS = 16


def open_box(reference: str, workspace: Workspace) -> GlassBox:
    """The model of that name, or the newest one of the workspace."""
    from bloomery.engine.glass_box_open import open_glass_box

    return open_glass_box(reference or workspace.latest(*MODEL_KINDS), workspace=workspace)


def label(text: str) -> str:
    """A token for a table or picture: quoted, control characters visible, not too long."""
    shown = repr(text)
    return shown if len(shown) <= _LABEL_CHARACTERS else f"{shown[: _LABEL_CHARACTERS - 2]}…{shown[-1]}"


def table(words: Sequence[str], numbers: Sequence[str]) -> Table:
    """An empty table: columns of words, then of numbers to the right."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False)
    for name in words:
        made.add_column(name, no_wrap=True)
    for name in numbers:
        made.add_column(name, justify="right", no_wrap=True)
    return made


def add_row(to: Table, *cells: str, style: str = "") -> None:
    """A row whose cells are text, never markup."""
    from rich.text import Text as RichText

    to.add_row(*(RichText(cell) for cell in cells), style=style)


def number(value: float | None) -> str:
    """Four significant digits, or a word for what is hidden."""
    return "hidden" if value is None else f"{value:.4g}"


def show(title: str, shown: Table) -> None:
    """A table under its title, on stdout."""
    from rich.console import Console
    from rich.text import Text as RichText

    console = Console(highlight=False)
    console.print(RichText(title, style="bold"), soft_wrap=True)
    console.print(shown)


def row_text(numbers: Sequence[float], limit: int | None = None) -> str:
    """A vector on one line; of a long one the first `limit` numbers."""
    shown = " ".join(f"{value:.4g}" for value in numbers[:limit])
    return shown if limit is None or len(numbers) <= limit else f"{shown} ... ({len(numbers)} numbers)"
