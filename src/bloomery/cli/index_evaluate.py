"""`bloomery index evaluate`: an index's rankings held to judged queries. This module does not know measures."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from bloomery.cli.index_search import IndexName, Mode
from bloomery.cli.options import Common, print_json


def evaluate(
    name: IndexName,
    *,
    queries: Annotated[Path, Parameter(help="JSONL with _id and text (BEIR), or an id, a tab and a query a line.")],
    qrels: Annotated[Path, Parameter(help="TREC's judgements, or BEIR's with tabs.")],
    mode: Annotated[Mode, Parameter(help="By words, by meaning, or both; auto: both if it can.")] = "auto",
    depth: Annotated[int, Parameter(help="Documents of each ranking.", validator=validators.Number(gte=1))] = 100,
    common: Common | None = None,
) -> None:
    """nDCG@10, recall, MRR and MAP of an index, with 95% intervals over queries; of an index with vectors the parts
    and the differences between them too."""
    common = common or Common()
    from bloomery.retrieve import SearchConfig, open_retriever
    from bloomery.retrieve.measures.evaluation import by_document, difference
    from bloomery.retrieve.measures.evaluation import evaluate as measured
    from bloomery.retrieve.measures.judgements import read_judgements, read_queries

    asked, judged = read_queries(queries), read_judgements(qrels)
    asked = {query: text for query, text in asked.items() if query in judged}
    ranked = {}
    search = SearchConfig(mode=mode)
    with closing(open_retriever(name, workspace=common.workspace(), search=search)) as index:
        main = index.mode()
        ways: tuple[Mode, ...] = ("hybrid", "lexical", "vector")
        chosen: tuple[Mode, ...] = ways if main == "hybrid" else tuple(one for one in ways if one == main)
        for way in chosen:
            settings = SearchConfig(mode=way, depth=max(300, depth))
            # Several chunks may be of one document.
            ranked[way] = {
                query: by_document(index.search(text, min(3 * depth, 10_000), settings=settings), depth)
                for query, text in asked.items()
            }
    found = {way: measured(one, judged) for way, one in ranked.items()}
    against = {way: difference(ranked[main], one, judged) for way, one in ranked.items() if way != main}
    if common.json:
        rows = {way: {key: one.to_dict() for key, one in values.items()} for way, values in found.items()}
        return print_json({"measures": rows, "differences": {way: one.to_dict() for way, one in against.items()}})
    for way, values in found.items():
        count = next(iter(values.values())).n
        print(f"{way}, {count:,} queries")
        for key, one in values.items():
            print(f"  {key:8} {one.value:.4f} [{one.low:.4f}, {one.high:.4f}]")
    for way, one in against.items():
        print(f"nDCG@10, {main} minus {way}: {one.value:+.4f} [{one.low:+.4f}, {one.high:+.4f}]")
    return None
