"""`bloomery index search`: the best chunks for a query. This module does not know how they are found."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, validators

from bloomery.cli.options import Common, print_json, shown
from bloomery.core.errors import ConfigError

if TYPE_CHECKING:
    from bloomery.retrieve import Hit

Filter = Annotated[
    list[str] | None,
    Parameter(name="--filter", negative=(), help="FIELD=VALUE; repeated: one of a field's values, and every field."),
]
IndexName = Annotated[str, Parameter(help="An index: its name, or a path with a slash.")]
Mode = Literal["auto", "lexical", "vector", "hybrid"]


def search(
    name: IndexName,
    query: Annotated[str, Parameter(help="What to look for.")],
    *,
    k: Annotated[int, Parameter(name=["--k", "-k"], help="Chunks at most.", validator=validators.Number(gte=1))] = 10,
    mode: Annotated[
        Mode, Parameter(help="By words, by meaning, or both [auto: both where there are vectors].")
    ] = "auto",
    filter_: Filter = None,
    common: Common | None = None,
) -> None:
    """The best chunks of an index for a query, with the place of each in its document."""
    common = common or Common()
    from bloomery.retrieve import SearchConfig, open_retriever

    search = SearchConfig(mode=mode)
    with closing(open_retriever(name, workspace=common.workspace(), search=search)) as index:
        hits = index.search(query, k, read_filters(filter_))
    if common.json:
        return print_json([hit_data(hit) for hit in hits])
    if not hits:
        print("nothing found")
    for place, hit in enumerate(hits, start=1):
        chunk = hit.chunk
        above = f"  {chunk.heading}" if chunk.heading else ""
        print(shown(f"{place:>3}. {hit.score:.4f}  {chunk.document_id} [{chunk.start}:{chunk.end}]{above}"))
        print(shown("     " + " ".join(chunk.text.split())[:200]))
    return None


def read_filters(filters: list[str] | None) -> dict[str, Any]:
    """FIELD=VALUE as filters: a value is JSON where it is that and no text. ConfigError for one without "="."""
    from bloomery.core.config import parse_scalar

    found: dict[str, list[Any]] = {}
    for one in filters or ():
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise ConfigError(f"--filter {one!r} has no value", hint="--filter FIELD=VALUE")
        read = parse_scalar(value)
        found.setdefault(name, []).extend([value] if isinstance(read, str) else [read, value])
    return dict(found)


def hit_data(hit: Hit) -> dict[str, Any]:
    """A hit as JSON data."""
    chunk = hit.chunk
    return {
        "id": chunk.id,
        "document": chunk.document_id,
        "start": chunk.start,
        "end": chunk.end,
        "heading": chunk.heading,
        "text": chunk.text,
        "metadata": dict(chunk.metadata),
        "score": hit.score,
        "ranks": dict(hit.ranks),
    }
