"""`bloomery index`: documents into an index, and what is done with it: search, show, delete, compact, evaluate. One
file for each verb beside this; this module puts documents in."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter, validators

from bloomery.cli.options import Common, print_json, shown

if TYPE_CHECKING:
    from bloomery.retrieve import IndexConfig, IndexReport

_VERBS = {
    "search": "The best chunks for a query.",
    "show": "The indexes there are, or one's documents and chunks.",
    "delete": "Documents out of an index, by id or metadata, or the whole index.",
    "evaluate": "How good an index's rankings are, by judged queries.",
    "compact": "What was deleted out of an index's files.",
}
app = App(
    name="index",
    help="Documents into an index: cut into chunks, found by words and by meaning.",
    help_format="plaintext",
)
for _place, (_verb, _summary) in enumerate(_VERBS.items()):
    app.command(f"bloomery.cli.index_{_verb}:{_verb}", name=_verb, help=_summary, sort_key=_place)
Cut = Literal["auto", "structure", "sentences", "tokens", "code", "whole"]
Words = Literal["porter", "unicode61", "trigram"]


@app.default
def index(
    paths: Annotated[list[str], Parameter(help="Files, folders, globs, code:FOLDER, hf:FOLDER, or a corpus.")],
    *,
    into: Annotated[
        str, Parameter(help="The index: a name, a path with a slash, or qdrant+http://HOST:6333/COLLECTION.")
    ],
    embedder: Annotated[
        str | None, Parameter(help="What gives vectors: a folder, artifact, hub id, minilm, or an endpoint's address.")
    ] = None,
    embedder_model: Annotated[str | None, Parameter(help="The model's name at the endpoint.")] = None,
    query_prefix: Annotated[str | None, Parameter(help="Before a query that is embedded.")] = None,
    passage_prefix: Annotated[str | None, Parameter(help="Before a chunk that is embedded.")] = None,
    precision: Annotated[Literal["float32", "float16"] | None, Parameter(help="Of vectors on disk.")] = None,
    cut: Annotated[Cut | None, Parameter(help="How documents are cut [default: auto, by structure or code].")] = None,
    size: Annotated[
        int | None, Parameter(help="Tokens of a chunk at most [default: 200].", validator=validators.Number(gte=8))
    ] = None,
    overlap: Annotated[
        int | None, Parameter(help="Tokens that chunks share at most [default: 0].", validator=validators.Number(gte=0))
    ] = None,
    tokenizer: Annotated[str | None, Parameter(help="Whose tokens count [default: words and signs].")] = None,
    words: Annotated[Words | None, Parameter(help="How texts become terms [default: porter, English stems].")] = None,
    text_field: Annotated[str, Parameter(help="The field of JSONL, CSV and Parquet that holds the text.")] = "text",
    id_field: Annotated[str | None, Parameter(help="The field that names a document.")] = None,
    title_field: Annotated[str | None, Parameter(help="The field that holds its title [default: title].")] = None,
    field: Annotated[
        list[str] | None, Parameter(negative=(), help="A field to keep, to filter by; repeatable.")
    ] = None,
    fresh: Annotated[bool, Parameter(negative=(), help="Begin the index anew.")] = False,
    common: Common | None = None,
) -> None:
    """Put documents into an index, made where there is none. What has not changed is not cut or embedded again, what
    changed is replaced, and what is gone from PATHS is deleted. How it is cut and embedded is fixed when it is made."""
    common = common or Common()
    from bloomery.corpus.config import CurateConfig
    from bloomery.retrieve import index as build

    asked = {
        "embedder": embedder,
        "embedder_model": embedder_model,
        "query_prefix": query_prefix,
        "passage_prefix": passage_prefix,
        "precision": precision,
        "words": words,
        "id_field": id_field,
        "title_field": title_field,
        "cut.method": cut,
        "cut.size_tokens": size,
        "cut.overlap_tokens": overlap,
        "cut.tokenizer": tokenizer,
    }
    workspace = common.workspace()
    if fresh and embedder is None and not common.quiet:
        _note_lost_vectors(into, workspace)
    config = _config(into, {name: value for name, value in asked.items() if value is not None}, workspace, fresh)
    reading = CurateConfig(text_field=text_field, metadata_fields=tuple(field or ()))
    report = build(paths, into=into, config=config, reading=reading, workspace=workspace, fresh=fresh)
    if common.json:
        return print_json(report.to_dict())
    return print("\n".join(report_lines(report)))


def _note_lost_vectors(into: str, workspace: object) -> None:
    from bloomery.core.errors import BloomeryError
    from bloomery.core.workspace import as_workspace
    from bloomery.retrieve.building import known_config

    try:
        kept = known_config(into, as_workspace(workspace))  # type: ignore[arg-type]
    except BloomeryError:  # a damaged one is why it is made anew
        return
    if kept is not None and kept.embedder:
        told = f"note: {into} was with --embedder {kept.embedder}; made anew without one, it has words alone"
        print(shown(told), file=sys.stderr)


def _config(into: str, asked: dict[str, object], workspace: object, fresh: bool) -> IndexConfig | None:
    """The index's own config with what is asked for: where that is another one, who writes says so."""
    from bloomery.core.config import from_dict, to_dict
    from bloomery.core.workspace import as_workspace
    from bloomery.retrieve.building import known_config
    from bloomery.retrieve.store.config import IndexConfig

    kept = None if fresh else known_config(into, as_workspace(workspace))  # type: ignore[arg-type]
    if not asked:
        return kept
    told = to_dict(kept or IndexConfig())
    for name, value in asked.items():
        table, _, key = name.rpartition(".")
        (told[table] if table else told)[key] = value
    return from_dict(IndexConfig, told)


def report_lines(report: IndexReport) -> list[str]:
    """What a run did, in lines."""
    described = f" ({report.described:,} with other metadata)" if report.described else ""
    lines = [
        f"{report.index}: {report.added:,} added, {report.changed:,} changed, {report.deleted:,} deleted, "
        f"{report.unchanged:,} unchanged{described}",
        f"  {report.chunks:,} chunks cut in {report.seconds:.1f} s, {report.energy_joules.text('J')}",
    ]
    lines += [f"  {times:,} {reason.replace('_', ' ')}" for reason, times in sorted(report.problems.items())]
    return lines
