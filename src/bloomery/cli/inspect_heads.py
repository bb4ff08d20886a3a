"""`bloomery inspect heads`: every head of a model in three numbers. This module does not know how they are made."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from bloomery.cli.inspect_options import PRESET, ModelName, Target, Text, add_row, open_box, show, table
from bloomery.cli.options import Common, print_json
from bloomery.core.errors import ConfigError

_SORTS = ("layer", "entropy", "previous", "induction")


def heads(
    model: ModelName = "",
    *,
    text: Text = PRESET,
    target: Target = None,
    sort: Annotated[str, Parameter(help="Order: layer, entropy (sharpest first), previous or induction.")] = "layer",
    common: Common | None = None,
) -> None:
    """Every head in numbers: entropy, looking at the token before, induction (on random tokens that come twice)."""
    common = common or Common()
    if sort not in _SORTS:
        raise ConfigError(f"heads cannot be sorted by {sort!r:.40}", hint="known: " + ", ".join(_SORTS))
    view = open_box(model, common.workspace()).heads(text, target=target)
    if sort == "induction" and view.induction is None:
        raise ConfigError(f"{view.model} has no induction scores", hint="they are a decoder's")
    if common.json:
        print_json(view.to_dict())
        return
    columns = ["entropy", "previous", *(["induction"] if view.induction is not None else [])]
    title = f"{view.model}: {view.stack}, {len(view.tokens)} tokens; entropy in nats, the others mean weights"
    if view.induction is not None:
        title += "; induction not on this text, but on random tokens that come twice: to what followed the first time"
    shown = table(["layer", "head"], columns)
    rows = [
        (layer, head, entropy, view.previous[layer][head], view.induction[layer][head] if view.induction else None)
        for layer, row in enumerate(view.entropy)
        for head, entropy in enumerate(row)
    ]
    if sort != "layer":
        place = _SORTS.index(sort) + 1
        rows.sort(key=lambda row: (row[place] or 0.0) * (1 if sort == "entropy" else -1))
    for layer, head, entropy, previous, induction in rows:
        last = [] if induction is None else [f"{induction:.3f}"]
        add_row(shown, str(layer), str(head), f"{entropy:.3f}", f"{previous:.3f}", *last)
    show(title, shown)
