"""Retrieval: how good on SciFact and Cranfield, and how quick over many chunks, beside bm25s, SQLite FTS5 and usearch.

    python benchmarks/bench_retrieval.py quality [--embedder minilm] [--home DIR]
    python benchmarks/bench_retrieval.py speed [--chunks 100000] [--queries 200]

`quality` reads $BLOOMERY_DATA/ir (else ../shared/data/ir). What fusion takes, ranks or scores and which weights, is
chosen on claims of SciFact's train split; test claims are measured once, with what was chosen and with the defaults.
`speed` draws chunks of six sentences each from SciFact's abstracts; vectors are random directions of 384 numbers, for
which a full search takes as long as for any others, and a graph has its hardest case. Times are of one query at a time.
"""

from __future__ import annotations

import argparse
import ast
import csv
import io
import json
import os
import random
import re
import sqlite3
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from bloomery.corpus.document import Document
from bloomery.retrieve import CutConfig, Index, IndexConfig, SearchConfig, index, open_index
from bloomery.retrieve.embedding.embedder import unit
from bloomery.retrieve.measures.evaluation import by_document, difference, evaluate
from bloomery.retrieve.measures.judgements import read_judgements, read_queries
from bloomery.retrieve.store.graph import graph_path
from bloomery.retrieve.store.schema import Counters, NewChunk, NewDocument
from bloomery.retrieve.store.writer import Writer

DATA = Path(os.environ.get("BLOOMERY_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")) / "ir"
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
DIMENSION = 384
Set = tuple[list[Document], dict[str, str], Mapping[str, Mapping[str, int]]]


def scifact_rows(name: str) -> list[dict[str, str]]:
    csv.field_size_limit(1 << 30)
    with zipfile.ZipFile(DATA / "scifact.zip") as packed, packed.open(name) as stream:
        return list(csv.DictReader(io.TextIOWrapper(stream, "utf-8")))


def sentences_of(abstract: str) -> list[str]:
    """An abstract is kept as NumPy prints a list of strings."""
    return [ast.literal_eval(found[0]) for found in _QUOTED.finditer(abstract)]


def scifact() -> tuple[list[Document], Set, Set]:
    """Documents; train claims; test claims with BEIR's judgements."""
    documents = [
        Document.of(" ".join(sentences_of(row["abstract"])), "scifact", {"_id": row["doc_id"], "title": row["title"]})
        for row in scifact_rows("corpus_train.csv")
    ]
    claims, judged = {}, {}
    for row in scifact_rows("claims_train.csv"):
        claims[row["id"]] = row["claim"]
        judged.setdefault(row["id"], {}).update(dict.fromkeys(re.findall(r"\d+", row["cited_doc_ids"]), 1))
    test = read_queries(DATA / "topics.scifact.test.tsv.gz"), read_judgements(DATA / "qrels.scifact.test.txt")
    return documents, (documents, claims, judged), (documents, *test)


def cranfield() -> Set:
    """Cranfield's 1,400 abstracts and 225 queries. Its judgements count queries by place; codes 1 to 4 are answers of
    falling worth, -1 is none."""
    with tarfile.open(DATA / "cranfield.tar.xz") as packed:
        texts = {}
        for name in ("cran.all.1400", "cran.qry", "cranqrel"):
            stream = packed.extractfile(f"cran/{name}")
            assert stream is not None
            texts[name] = stream.read().decode("latin-1")
    documents = []
    for part in re.split(r"^\.I ", texts["cran.all.1400"], flags=re.MULTILINE)[1:]:
        fields = dict(re.findall(r"^\.([TW])\n(.*?)(?=^\.[A-Z]\n|\Z)", part, re.MULTILINE | re.DOTALL))
        title, body = (" ".join(fields.get(key, "").split()) for key in "TW")
        text = body.removeprefix(title).strip() or title or "-"
        documents.append(Document.of(text, "cranfield", {"_id": part.split()[0], "title": title}))
    parts = re.split(r"^\.I \d+\n\.W\n", texts["cran.qry"], flags=re.MULTILINE)[1:]
    queries = {str(place): " ".join(part.split()) for place, part in enumerate(parts, start=1)}
    judged: dict[str, dict[str, int]] = {}
    for line in texts["cranqrel"].splitlines():
        query, document, code = line.split()[:3]
        judged.setdefault(query, {})[document] = max(0, 5 - int(code)) if int(code) > 0 else 0
    return documents, queries, judged


def ranked(found: Index, queries: Mapping[str, str], settings: SearchConfig) -> dict[str, list[tuple[str, float]]]:
    return {name: by_document(found.search(text, 100, settings=settings), 100) for name, text in queries.items()}


def quality(asked: argparse.Namespace) -> None:
    documents, train, test = scifact()
    home = asked.home or Path(tempfile.mkdtemp(prefix="bench-retrieval-"))
    config = IndexConfig(cut=CutConfig(method="whole"), embedder=asked.embedder, id_field="_id")
    index(documents, into="scifact", config=config, workspace=home)
    with open_index("scifact", workspace=home) as found:
        chosen = tuned(found, train) if asked.embedder else SearchConfig()
        measured("SciFact, test", found, test, chosen, asked.embedder)
    tests = cranfield()
    index(tests[0], into="cranfield", config=config, workspace=home)
    with open_index("cranfield", workspace=home) as found:
        measured("Cranfield", found, tests, chosen, asked.embedder)


def tuned(found: Index, train: Set) -> SearchConfig:
    """The fusion that is best on train claims."""
    options = [
        SearchConfig(mode="hybrid", fusion=how, vector_weight=w) for how in ("ranks", "scores") for w in (0.5, 1, 2)
    ]
    best, most = options[0], -1.0
    for one in options:
        value = evaluate(ranked(found, train[1], one), train[2], ("nDCG@10",))["nDCG@10"].value
        print(
            json.dumps(
                {"train": {"fusion": one.fusion, "vector_weight": one.vector_weight}, "nDCG@10": round(value, 4)}
            )
        )
        if value > most:
            best, most = one, value
    return best


def measured(name: str, found: Index, test: Set, chosen: SearchConfig, embedder: str) -> None:
    ways = {"bm25": SearchConfig(mode="lexical")}
    if embedder:
        ways |= {"vector": SearchConfig(mode="vector"), "hybrid": SearchConfig(mode="hybrid"), "hybrid, tuned": chosen}
    rankings = {way: ranked(found, test[1], settings) for way, settings in ways.items()}
    for way, one in rankings.items():
        for measure, value in evaluate(one, test[2], ("nDCG@10", "R@100", "RR")).items():
            print(f"{name}: {way}: {measure} {value.value:.4f} [{value.low:.4f}, {value.high:.4f}], n = {value.n}")
    for way in [one for one in rankings if one.startswith("hybrid")]:
        for part in ("bm25", "vector"):
            by = difference(rankings[way], rankings[part], test[2])
            print(f"{name}: {way} minus {part}: nDCG@10 {by.value:+.4f} [{by.low:+.4f}, {by.high:+.4f}]")


def drawn_chunks(count: int) -> list[str]:
    drawn = random.Random(0)
    known = [one for row in scifact_rows("corpus_train.csv") for one in sentences_of(row["abstract"])]
    return [" ".join(drawn.choices(known, k=6)) for _ in range(count)]


def timed(name: str, work: Callable[[int], object], count: int) -> None:
    """Milliseconds of `work(n)` for each query, after three to warm up."""
    for n in range(3):
        work(n)
    took = []
    for n in range(count):
        began = time.perf_counter()
        work(n)
        took.append(1000 * (time.perf_counter() - began))
    p50, p95, p99 = np.percentile(took, (50, 95, 99))
    print(f"{name:34} p50 {p50:8.2f} ms   p95 {p95:8.2f} ms   p99 {p99:8.2f} ms", flush=True)


def speed(asked: argparse.Namespace) -> None:
    queries = list(read_queries(DATA / "topics.scifact.test.tsv.gz").values())[: asked.queries]
    texts = drawn_chunks(asked.chunks)
    rng = np.random.default_rng(0)
    vectors = unit(rng.standard_normal((asked.chunks, DIMENSION)))
    looked = unit(rng.standard_normal((len(queries), DIMENSION)))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "index"
        began = time.perf_counter()
        with Writer(folder, IndexConfig(embedder="random", words="porter")) as writer:
            for start in range(0, len(texts), 2000):
                part = range(start, min(start + 2000, len(texts)))
                writer.put([_document(n, texts[n]) for n in part], vectors[start : start + 2000])
            print(f"{len(texts):,} chunks in: {time.perf_counter() - began:.1f} s without embedding", flush=True)
        settings = SearchConfig()
        with Index(folder) as found:
            words = [found._terms.of_query(query) for query in queries]
            timed(
                "bloomery, lexical",
                lambda n: found.search(queries[n], settings=SearchConfig(mode="lexical")),
                len(queries),
            )
            timed("bloomery, vector, in full", lambda n: found.search_with({}, looked[n]), len(queries))
            timed("bloomery, hybrid, without embedding", lambda n: found.search_with(words[n], looked[n]), len(queries))
            if asked.graph:
                exact = [[hit.chunk.id for hit in found.search_with({}, one)] for one in looked]
                with Writer(folder) as writer:
                    began = time.perf_counter()
                    writer.grow_graph(1)
                    print(f"graph: {time.perf_counter() - began:.1f} s, {graph_path(folder, Counters()).name}")
                near = replace(settings, exact_rows=1)
                timed(
                    "bloomery, vector, graph", lambda n: found.search_with({}, looked[n], settings=near), len(queries)
                )
                again = [[hit.chunk.id for hit in found.search_with({}, one, settings=near)] for one in looked]
                share = np.mean([len({*a} & {*b}) / len(a) for a, b in zip(exact, again, strict=True)])
                print(f"graph: recall@10 {share:.4f} of the full search's")
    peers(texts, vectors, queries, looked)


def _document(n: int, text: str) -> NewDocument:
    chunk = NewChunk(id=f"c{n}", start=0, end=len(text), heading="", text=text)
    return NewDocument(id=f"d{n}", origin="o", source="s", digest=b"", metadata={}, text=text, chunks=[chunk])


def peers(texts: list[str], vectors: np.ndarray, queries: list[str], looked: np.ndarray) -> None:
    import bm25s
    import Stemmer
    from usearch.index import search as usearch_exact

    stemmer = Stemmer.Stemmer("english")
    peer = bm25s.BM25(method="lucene", k1=0.9, b=0.4)
    peer.index(bm25s.tokenize(texts, stemmer=stemmer, show_progress=False), show_progress=False)

    def with_bm25s(n: int) -> object:
        tokens = bm25s.tokenize([queries[n]], stemmer=stemmer, show_progress=False)
        return peer.retrieve(tokens, k=10, show_progress=False, n_threads=1)

    timed("bm25s", with_bm25s, len(queries))
    db = sqlite3.connect(":memory:")
    db.execute("CREATE VIRTUAL TABLE t USING fts5(text, tokenize='porter unicode61')")
    db.executemany("INSERT INTO t VALUES (?)", ((text,) for text in texts))
    asked = [" OR ".join(f'"{word}"' for word in re.findall(r"\w+", query)) for query in queries]
    best = "SELECT rowid, bm25(t) FROM t WHERE t MATCH ? ORDER BY rank LIMIT 10"
    timed("SQLite FTS5", lambda n: db.execute(best, (asked[n],)).fetchall(), len(queries))
    timed(
        "usearch, in full", lambda n: usearch_exact(vectors, looked[n], 10, "ip", exact=True, threads=1), len(queries)
    )
    timed("NumPy, in full", lambda n: np.argpartition(-(vectors @ looked[n]), 10)[:10], len(queries))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    ways = parser.add_subparsers(required=True)
    one = ways.add_parser("quality")
    one.add_argument("--embedder", default="")
    one.add_argument("--home", type=Path)
    one.set_defaults(work=quality)
    two = ways.add_parser("speed")
    two.add_argument("--chunks", type=int, default=100_000)
    two.add_argument("--queries", type=int, default=200)
    two.add_argument("--graph", action="store_true", help="usearch's graph too, which takes minutes to make")
    two.set_defaults(work=speed)
    asked = parser.parse_args()
    asked.work(asked)


if __name__ == "__main__":
    main()
