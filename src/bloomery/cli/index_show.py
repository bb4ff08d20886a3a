"""`bloomery index show`: the indexes there are, or what one holds. This module does not know how it is kept."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from bloomery.cli.index_search import Filter, read_filters
from bloomery.cli.options import Common, print_json, shown


def show(
    name: Annotated[str, Parameter(help="An index [default: all, in a line each].")] = "",
    *,
    document: Annotated[str, Parameter(help="The chunks of this document, by its id.")] = "",
    documents: Annotated[bool, Parameter(negative=(), help="Every document in a line.")] = False,
    filter_: Filter = None,
    common: Common | None = None,
) -> None:
    """What there is in an index: counts and how it was made; its documents; a document's chunks."""
    common = common or Common()
    from bloomery.core.config import to_dict
    from bloomery.core.errors import ArtifactError
    from bloomery.retrieve import SearchConfig, open_index
    from bloomery.retrieve.places import known_indexes

    workspace = common.workspace()
    lexical = SearchConfig(mode="lexical")
    if not name:
        rows = []
        for one in known_indexes(workspace):
            with open_index(one, workspace=workspace, search=lexical) as index:
                rows.append({"name": one, **index.counts(), "embedder": index.config.embedder})
        if common.json:
            return print_json(rows)
        for row in rows:
            vectors = f", vectors by {row['embedder']}" if row["embedder"] else ""
            print(f"{row['name']}: {row['documents']:,} documents, {row['chunks']:,} chunks{vectors}")
        if not rows:
            print("no index yet; bloomery index PATHS --into NAME makes one")
        return None
    with open_index(name, workspace=workspace, search=lexical) as index:
        if document:
            if index.document(document) is None:
                raise ArtifactError(f"no document {document!r} in {name}", hint="bloomery index show NAME --documents")
            chunks = [
                {"id": one.id, "start": one.start, "end": one.end, "heading": one.heading, "text": one.text}
                for one in index.chunks(document)
            ]
            if common.json:
                return print_json(chunks)
            for chunk in chunks:
                print(shown(f"[{chunk['start']}:{chunk['end']}] {chunk['id']}  {chunk['heading']}"))
                print(shown(str(chunk["text"])))
            return None
        if documents or filter_:
            found = index.documents(read_filters(filter_))
            if common.json:
                return print_json(found)
            for row in found:
                print(
                    shown(f"{row['id']}  {row['chunks']:,} chunks, {row['characters']:,} characters  {row['source']}")
                )
            return None
        told = {"path": str(index.folder), **index.counts(), "config": to_dict(index.config)}
    if common.json:
        return print_json(told)
    for key, value in told.items():
        print(shown(f"{key:12} {value}"))
    return None
