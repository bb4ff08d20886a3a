"""Retrieval: how quick over many chunks, beside bm25s, SQLite FTS5, usearch and NumPy. How good: experiments/
hybrid_retrieval.py.

    python benchmarks/bench_retrieval.py [--chunks 100000] [--queries 100] [--graph]

Chunks are six sentences each, drawn from SciFact's abstracts ($BLOOMERY_DATA/ir, else ../shared/data/ir); vectors are
random directions of 384 numbers, for which a full search takes as long as for any others, and a graph has its hardest
case. Times are of one query at a time, by the clock and by the processor, which a machine that is shared disturbs less;
OMP_NUM_THREADS says how many threads NumPy takes.
"""

from __future__ import annotations

import argparse
import ast
import csv
import io
import os
import random
import re
import sqlite3
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from bloomery.corpus.document import Document
from bloomery.retrieve import Index, IndexConfig, SearchConfig
from bloomery.retrieve.embedding.embedder import unit
from bloomery.retrieve.measures.judgements import read_queries
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


def drawn_chunks(count: int) -> list[str]:
    drawn = random.Random(0)
    known = [one for row in scifact_rows("corpus_train.csv") for one in sentences_of(row["abstract"])]
    return [" ".join(drawn.choices(known, k=6)) for _ in range(count)]


def timed(name: str, work: Callable[[int], object], count: int) -> None:
    """Milliseconds of `work(n)` for each query, after three to warm up."""
    for n in range(min(3, count)):
        work(n)
    clock, processor = [], []
    for n in range(count):
        began, spent = time.perf_counter(), time.process_time()
        work(n)
        clock.append(1000 * (time.perf_counter() - began))
        processor.append(1000 * (time.process_time() - spent))
    told = "   ".join(
        f"{kind} p50 {np.percentile(took, 50):7.2f} p95 {np.percentile(took, 95):7.2f} ms"
        for kind, took in (("clock", clock), ("processor", processor))
    )
    print(f"{name:36} {told}", flush=True)


def speed(asked: argparse.Namespace) -> None:
    queries = list(read_queries(DATA / "topics.scifact.test.tsv.gz").values())[: asked.queries]
    texts = drawn_chunks(asked.chunks)
    rng = np.random.default_rng(0)
    vectors = unit(rng.standard_normal((asked.chunks, DIMENSION)))
    looked = unit(rng.standard_normal((len(queries), DIMENSION)))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "index"
        began, spent = time.perf_counter(), time.process_time()
        with Writer(folder, IndexConfig(embedder="random", words="porter")) as writer:
            for start in range(0, len(texts), 2000):
                part = range(start, min(start + 2000, len(texts)))
                writer.put([_document(n, texts[n]) for n in part], vectors[start : start + 2000])
            took, processor = time.perf_counter() - began, time.process_time() - spent
            print(f"{len(texts):,} chunks in, without embedding: {took:.1f} s, of the processor {processor:.1f} s")
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
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--graph", action="store_true", help="usearch's graph too, which takes minutes to make")
    speed(parser.parse_args())


if __name__ == "__main__":
    main()
