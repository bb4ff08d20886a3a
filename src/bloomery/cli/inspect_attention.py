"""`bloomery inspect attention`: one head from one query, in numbers and as a picture.

This module does not know how the numbers are made (`engine.glass_box`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from bloomery.cli.attention_words import CAPTION, difference_line, headline, score_columns, scores_of, shown_keys
from bloomery.cli.heat_map import LEGEND, heat_map
from bloomery.cli.inspect_options import (
    PRESET,
    ModelName,
    Target,
    Text,
    add_row,
    label,
    number,
    open_box,
    row_text,
    show,
    table,
)
from bloomery.cli.options import Common, print_json
from bloomery.core.errors import ConfigError

if TYPE_CHECKING:
    from bloomery.engine.glass_views import AttentionView

_SUFFIXES = (".html", ".svg", ".png")


def attention(
    model: ModelName = "",
    *,
    text: Text = PRESET,
    layer: Annotated[int, Parameter(help="From 0; -1 is the last.")] = -1,
    head: Annotated[int, Parameter(help="From 0; -1 is the last.")] = 0,
    query: Annotated[int, Parameter(help="Which token looks, from 0; -1 is the last.")] = -1,
    target: Target = None,
    cross: Annotated[
        bool,
        Parameter(negative=(), help="From the target to the text, in an encoder-decoder; in LLaVA its image encoder."),
    ] = False,
    image: Annotated[Path | None, Parameter(help="A picture, for a model that sees.")] = None,
    vectors: Annotated[bool, Parameter(negative=(), help="The query, keys and output too.")] = False,
    output: Annotated[Path | None, Parameter(help="Write a picture too: a file .html, .svg or .png.")] = None,
    common: Common | None = None,
) -> None:
    """One head from one query: scores (q.k, scale, mask), softmax, values, and a picture."""
    common = common or Common()
    if output is not None and output.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"no picture can be written as {output.name!r}", hint="end it in " + ", ".join(_SUFFIXES))
    box = open_box(model, common.workspace())
    view = box.attention(
        text, target=target, cross=cross, layer=layer, head=head, query=query, vectors=vectors, image=image
    )
    if output is not None:
        from bloomery.cli.attention_page import write_page, write_picture

        (write_page if output.suffix.lower() == ".html" else write_picture)(view, output)
    if common.json:
        print_json(view.to_dict())
        return
    _show(view)
    if output is not None:
        print(f"written: {output}")


def _show(view: AttentionView) -> None:
    from rich.console import Console
    from rich.text import Text as RichText

    console = Console(highlight=False)
    console.print(RichText(headline(view)), soft_wrap=True)
    console.print()
    keys, note = shown_keys(view)
    title = f"query {view.query.index} {label(view.query.text)}"
    numbers = table(["key", "token"], [*score_columns(view), "weight", "|weight v|"])
    for key in keys:
        cells = [str(key.index), label(key.text), *(number(value) for value in scores_of(view, key))]
        style = "dim" if key.masked is None else ""
        add_row(numbers, *cells, f"{key.weight:.4f}", number(key.value_norm), style=style)
    show(title, numbers)
    if note:
        console.print(RichText(note, style="dim"))
    if keys and keys[0].vector is not None:
        console.print()
        print(f"q {view.query.index}: {row_text(view.query_vector)}")
        for key in keys:
            print(f"k {key.index}: {row_text(key.vector or ())}")
        print(f"head output: {row_text(view.head_output)}")
    console.print()
    others = table(["head", "looks most at"], ["weight", "entropy"])
    for one in view.all_heads:
        key = view.keys[one.key]
        cells = (str(one.head), f"{key.index} {label(key.text)}", f"{one.weight:.4f}", f"{one.entropy:.3f}")
        add_row(others, *cells, style="bold" if one.head == view.head else "")
    show("all heads of the layer at this query", others)
    console.print()
    _show_grid(view, console.width)
    if view.contribution_norm is not None:
        console.print(
            f"this head adds a vector of length {view.contribution_norm:.4g} to a layer output of length "
            f"{view.output_norm:.4g}"
        )
    console.print(RichText(difference_line(view)), soft_wrap=True)
    console.print(RichText(CAPTION, style="dim"), soft_wrap=True)


def _show_grid(view: AttentionView, width: int) -> None:
    from rich.console import Console
    from rich.text import Text as RichText

    console, grid = Console(highlight=False), view.grid
    starts = range(0, len(view.queries), grid.row_block)
    labels = [f"{n} {label(view.queries[n].text)}" for n in starts]
    console.print(RichText(f"weights: rows are queries, columns keys   {LEGEND}", style="dim"), soft_wrap=True)
    blocks, chosen = (grid.row_block, grid.column_block), view.query.index // grid.row_block
    for line in heat_map(grid.maxima, labels, chosen=chosen, width=width, blocks=blocks):
        console.print(line, soft_wrap=True)
    console.print()
