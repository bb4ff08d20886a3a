"""A head's attention as one self-contained HTML file, or as a picture (SVG, PNG).

The page fetches nothing: the weights are in it, a few lines of script draw them on a canvas. All text is escaped. This
module does not know how the numbers are made.
"""

from __future__ import annotations

import base64
import json
import warnings
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bloomery.cli.attention_words import CAPTION, difference_line, headline, score_columns, scores_of, shown_keys
from bloomery.cli.inspect_options import label, number

if TYPE_CHECKING:
    from bloomery.engine.glass_views import AttentionView

_LABELLED = 48
_UNTOLD = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def render_page(view: AttentionView) -> str:
    """The HTML of a view."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    keys, note = shown_keys(view)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"label": label, "number": number}
    source = resources.files("bloomery.cli").joinpath("attention.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        view=view,
        headline=headline(view),
        keys=keys,
        note=note,
        columns=score_columns(view),
        scores_of=scores_of,
        difference=difference_line(view),
        caption=CAPTION,
        data=Markup(_as_script(view)),
    )


def write_page(view: AttentionView, path: Path) -> None:
    """One HTML file."""
    path.write_text(render_page(view), encoding="utf-8")


def write_picture(view: AttentionView, path: Path) -> None:
    """SVG or PNG, by the file's name: the weights of all queries, the chosen one framed."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    grid = view.grid
    cells = np.asarray(grid.means)
    side = min(12.0, max(4.0, 0.28 * max(cells.shape)))
    figure = Figure(figsize=(side + 1.5, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(cells, cmap="magma", vmin=0.0, vmax=float(cells.max()) or 1.0, aspect="auto")
    figure.colorbar(image, ax=axes, label="weight" if grid.row_block == grid.column_block == 1 else "mean weight")
    chosen = view.query.index // grid.row_block
    axes.add_patch(Rectangle((-0.5, chosen - 0.5), cells.shape[1], 1, fill=False, edgecolor="#38bdf8"))
    for axis, tokens, block, turned in (
        (axes.yaxis, view.queries, grid.row_block, 0),
        (axes.xaxis, view.keys, grid.column_block, 90),
    ):
        if block == 1 and len(tokens) <= _LABELLED:
            axis.set_ticks(range(len(tokens)), [label(token.text) for token in tokens], rotation=turned, fontsize=8)
            for text in axis.get_ticklabels():
                text.set_parse_math(False)  # a dollar sign in a token is no formula
    axes.set_title(f"layer {view.layer}, head {view.head}: {CAPTION.split(':')[0]}", fontsize=9)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a box stands for such a character
        figure.savefig(path, dpi=120)


def _as_script(view: AttentionView) -> str:
    """The weights and labels as JSON that cannot end a script element."""
    grid = view.grid
    cells = np.asarray(list(chain.from_iterable(grid.maxima)))
    steps = np.rint(np.clip(cells, 0.0, 1.0) * 65535).astype("<u2")
    data = {
        "rows": len(grid.maxima),
        "columns": len(grid.maxima[0]),
        "row_block": grid.row_block,
        "column_block": grid.column_block,
        "weights": base64.b64encode(steps.tobytes()).decode("ascii"),
        "queries": [token.text for token in view.queries],
        "keys": [key.text for key in view.keys],
        "chosen": view.query.index // grid.row_block,
    }
    return "".join(_UNTOLD.get(character, character) for character in json.dumps(data))
