"""`bloomery inspect source`: the first documents of a source as they are read. This module does not know formats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from bloomery.cli.options import Common, Overrides, RecipeFile, print_json, read_recipe, shown

if TYPE_CHECKING:
    from bloomery.corpus import Document

_LISTED = 100
_TEXT_LINES = 4


def source(
    *sources: Annotated[str, Parameter(help='Files, folders, globs or "python-docs".')],
    documents: Annotated[int, Parameter(help="Documents to show.")] = 3,
    characters: Annotated[int, Parameter(help="Characters of each document to show.")] = 400,
    recipe: RecipeFile = None,
    set_: Overrides = None,
    common: Common | None = None,
) -> None:
    """The first documents of a source with their metadata, and what was refused before them and why.

    Nothing is kept: no deduplication, no split, no corpus. `--set curate.extract=quality` and the like are heard.
    """
    common = common or Common()
    from bloomery.core.errors import ConfigError
    from bloomery.corpus import CurateConfig, peek

    if not sources:
        raise ConfigError("no source is given", hint="bloomery inspect source FILE")
    if documents < 1 or characters < 1:
        raise ConfigError("documents and characters should be at least 1")
    config = read_recipe(recipe, set_).table("curate", CurateConfig)
    seen = peek(sources, config=config, documents=documents, listed=_LISTED)
    if common.json:
        shown = [_data(document, characters) for document in seen.documents]
        reasons = dict(seen.refused.most_common())
        print_json({"documents": shown, "refused": reasons, "first_refused": seen.listed, "ended": seen.ended})
        return
    for number, document in enumerate(seen.documents, 1):
        _show(number, document, characters)
    if not seen.ended:
        print(f"and more: only the first {len(seen.documents)} documents were read")
    if seen.refused:
        print("refused: " + ", ".join(f"{count:,} {reason}" for reason, count in seen.refused.most_common()))
    for row in seen.listed[: 5 * documents]:
        print(f"  {row['where']}: {row['reason']}" + (f" ({row['detail']})" if row["detail"] else ""))


def _data(document: Document, characters: int) -> dict[str, Any]:
    return {
        "id": document.id,
        "source": document.source,
        "characters": len(document.text),
        "text": document.text[:characters],
        "metadata": document.metadata,
    }


def _show(number: int, document: Document, characters: int) -> None:
    print(f"{number}  {document.source}  ({len(document.text):,} characters)")
    for key, value in document.metadata.items():
        said = shown(" ".join(str(value).split()))
        print(f"   {key}: {said[:110]}" + ("..." if len(said) > 110 else ""))
    lines = [line for line in document.text[:characters].splitlines() if line.strip()]
    for line in lines[:_TEXT_LINES]:
        print(f"   | {shown(line[:110])}")
