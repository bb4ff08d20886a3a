"""`bloomery inspect neighbours`: what stands near a token in the embedding. It does not know how that is found."""

from __future__ import annotations

import math
from typing import Annotated

from cyclopts import Parameter

from bloomery.cli.inspect_options import ModelName, Top, add_row, label, open_box, row_text, show, table
from bloomery.cli.options import Common, print_json
from bloomery.core.errors import ConfigError


def neighbours(
    model: ModelName = "",
    *,
    token: Annotated[str | None, Parameter(help="A text that is one token.")] = None,
    id_: Annotated[int | None, Parameter(name="--id", help="Its id instead.")] = None,
    top: Top = 10,
    common: Common | None = None,
) -> None:
    """The tokens nearest to a token in the embedding, by cosine, and their places on a plane."""
    common = common or Common()
    if (token is None) == (id_ is None):
        raise ConfigError("one token is wanted", hint='--token " cat", or --id 17')
    box = open_box(model, common.workspace())
    view = box.neighbours(token if token is not None else id_ or 0, top=top)
    if common.json:
        print_json(view.to_dict())
        return
    title = f"{view.model}: nearest to {label(view.text)} ({view.token_id}); x, y: principal components of those shown"
    shown = table(["id", "token"], ["cosine", "x", "y"])
    for place, one in enumerate(view.tokens):
        cells = (f"{one.cosine:.4f}", f"{one.x:.3f}", f"{one.y:.3f}")
        add_row(shown, str(one.token_id), label(one.text), *cells, style="bold" if place == 0 else "")
    show(title, shown)
    length = math.sqrt(sum(value * value for value in view.vector))
    print(f"its row, of length {length:.4g}: {row_text(view.vector, 8)}")
