"""`bloomery index delete`: documents out of an index, or all of it. This module does not know how it is kept."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from bloomery.cli.index_search import Filter, IndexName, read_filters
from bloomery.cli.options import Common, print_json
from bloomery.core.errors import ArtifactError, ConfigError


def delete(
    name: IndexName,
    *,
    document: Annotated[list[str] | None, Parameter(negative=(), help="A document's id; repeatable.")] = None,
    filter_: Filter = None,
    everything: Annotated[bool, Parameter(negative=(), help="The index itself, with all its files.")] = False,
    common: Common | None = None,
) -> None:
    """Delete documents by id or by metadata; their room is freed by `bloomery index compact`. An id that is not there
    is a mistake, and then nothing is deleted."""
    common = common or Common()
    from bloomery.retrieve.places import existing_index, remove_index
    from bloomery.retrieve.store.writer import Writer

    folder = existing_index(name, common.workspace())
    chosen = sum((bool(document), bool(filter_), everything))
    if chosen != 1:
        raise ConfigError("say what to delete", hint="one of --document ID, --filter FIELD=VALUE, --everything")
    if everything:
        with Writer(folder):  # nobody writes to it
            remove_index(folder)
        return (
            print_json({"index": str(folder), "deleted": "everything"}) if common.json else print(f"{folder} is gone")
        )
    with Writer(folder) as writer:
        if absent := [one for one in document or () if writer.digest_of(one) is None]:
            named = ", ".join(repr(one) for one in absent[:3]) + (f" and {len(absent) - 3:,} more" * (len(absent) > 3))
            raise ArtifactError(
                f"no document {named} in {name}: nothing is deleted", hint=f"bloomery index show {name} --documents"
            )
        count = writer.remove(document or (), filters=read_filters(filter_))
    if common.json:
        return print_json({"index": str(folder), "deleted": count})
    return print(f"{count:,} documents deleted")
