"""`bloomery index compact`: what was deleted out of an index's files. This module does not know how they are kept."""

from __future__ import annotations

from bloomery.cli.index_search import IndexName
from bloomery.cli.options import Common, print_json


def compact(name: IndexName, *, common: Common | None = None) -> None:
    """Rewrite an index's files without what was deleted; searches go on meanwhile."""
    common = common or Common()
    from bloomery.retrieve.places import existing_index
    from bloomery.retrieve.store.writer import Writer

    with Writer(existing_index(name, common.workspace())) as writer:
        dead = writer.compact()
    if common.json:
        return print_json({"index": name, "chunks": dead})
    return print(f"{dead:,} deleted chunks are out of {name}")
