"""`bloomery inspect batch`: what a model would be shown, and what it would learn. This module does not know labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from bloomery.cli.inspect_options import label
from bloomery.cli.options import Common, Overrides, RecipeFile, print_json, read_recipe
from bloomery.cli.train import ObjectiveName, Start, TargetField, chosen, find_corpus, find_start

if TYPE_CHECKING:
    from rich.text import Text

    from bloomery.training.batch_view import Cell, RowView


def batch(
    corpus: Annotated[str, Parameter(help="A corpus: name, id or folder [default: the latest].")] = "",
    *,
    objective: ObjectiveName = "",
    field: TargetField = "",
    start: Start = "",
    rows: Annotated[int, Parameter(help="Rows to show.")] = 2,
    skip: Annotated[int, Parameter(help="Batches to pass over first.")] = 0,
    recipe: RecipeFile = None,
    set_: Overrides = None,
    common: Common | None = None,
) -> None:
    """The first batch that `bloomery train` would take: tokens as the model sees them, and what it learns where."""
    common = common or Common()
    from bloomery.core.errors import ConfigError
    from bloomery.tokenizer import TokenizerConfig
    from bloomery.training import prepare
    from bloomery.training.batch_view import view_batch

    if rows < 1 or skip < 0:
        raise ConfigError("rows should be at least 1 and skip at least 0")
    settings, workspace = read_recipe(recipe, set_), common.workspace()
    config = chosen(settings, objective, field, start)
    source = find_corpus(workspace, corpus, config)
    made, materials = prepare(
        source,
        config,
        start=find_start(workspace, start),
        tokenizer_config=settings.table("tokenizer", TokenizerConfig),
        workspace=workspace,
    )
    for _ in range(skip):
        made.next_batch(config.fit.batch_rows)
    found = made.next_batch(config.fit.batch_rows)
    views = view_batch(found, materials.tokenizer, names=materials.labels, target=materials.target)
    if common.json:
        shown = [view.to_dict() for view in views[:rows]]
        print_json({"objective": config.objective, "rows": len(views), "learnt": found.weight, "shown": shown})
        return
    print(f"{config.objective}: {len(views)} rows, {found.weight:,.0f} labels; {min(rows, len(views))} rows shown")
    for number, view in enumerate(views[:rows]):
        _show(number, view)


def _show(number: int, view: RowView) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for name, cells in view.inputs.items():
        learns = [cell for cell in cells if cell.label]
        console.print(Text(f"row {number}, {name} ({len(cells)} tokens, {len(learns)} learnt)", style="bold"))
        console.print(_line(cells))
    if view.answer:
        console.print(Text(f"learns: {view.answer}"))
    for name, described in view.others.items():
        console.print(Text(f"{name}: {described}", style="dim"))


def _line(cells: list[Cell]) -> Text:
    """Tokens one after the other; a label stands behind its token where it is not the token that comes next."""
    from rich.text import Text

    line = Text()
    for place, cell in enumerate(cells):
        following = cells[place + 1].text if place + 1 < len(cells) else None
        line.append(cell.text if cell.text.isprintable() else label(cell.text), style="reverse" if cell.label else "")
        if cell.label and cell.label != following:
            line.append(f"[{label(cell.label)}]", style="bold")
    return line
