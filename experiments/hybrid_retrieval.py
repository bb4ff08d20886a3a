"""Words, meaning, or both: BM25, MiniLM and their fusion on SciFact and Cranfield, by our own index.

How abstracts are cut, and how the two rankings become one, is chosen on SciFact's 809 training claims; the 300 test
claims are measured once, with what was chosen, and Cranfield's 225 queries with the same. Intervals are BCa over
queries, differences are paired by query. Embedding takes one thread an hour; a run that was ended goes on where --home
is kept.

    python experiments/hybrid_retrieval.py [--home DIR]
"""

from __future__ import annotations

import argparse
import ast
import csv
import io
import itertools
import re
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from common import data, keep

from bloomery.core.workspace import as_workspace
from bloomery.corpus.document import Document
from bloomery.evaluate.statistics import Interval
from bloomery.retrieve import CutConfig, Index, IndexConfig, SearchConfig, index, open_index
from bloomery.retrieve.embedding.opening import open_embedder
from bloomery.retrieve.measures.evaluation import by_document, difference, evaluate, per_query
from bloomery.retrieve.measures.judgements import read_judgements, read_queries
from bloomery.retrieve.store.fusion import fuse

EMBEDDER = "minilm"
CUTS = {
    "whole abstracts": CutConfig(method="whole"),
    "pieces of 60 words": CutConfig(method="sentences", size_tokens=60),
}
WEIGHTS, DEPTHS = (0.5, 0.75, 1.0, 1.5, 2.0), (100, 300, 1000)
MEASURES = ("nDCG@10", "R@100", "RR")
CHUNKS = 1000
"""Searched for, of which 100 documents are ranked."""
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
Set = tuple[list[Document], dict[str, str], Mapping[str, Mapping[str, int]]]
Ranked = dict[str, list[tuple[str, float]]]


def sentences(listed: str) -> str:
    """An abstract, which the file keeps as NumPy prints a list of strings."""
    return " ".join(ast.literal_eval(found[0]) for found in _QUOTED.finditer(listed))


def scifact() -> tuple[list[Document], Set, Set]:
    """Documents; training claims with what they cite; test claims with BEIR's judgements."""
    csv.field_size_limit(1 << 24)
    with zipfile.ZipFile(data("ir", "scifact.zip")) as archive:

        def rows(file: str) -> list[dict[str, str]]:
            return list(csv.DictReader(io.StringIO(archive.read(file).decode("utf-8"), newline="")))

        documents = [
            Document.of(sentences(row["abstract"]), "scifact", {"_id": row["doc_id"], "title": row["title"]})
            for row in rows("corpus_train.csv")
        ]
        claims, judged = {}, {}
        for row in rows("claims_train.csv"):
            claims[row["id"]] = row["claim"]
            judged.setdefault(row["id"], {}).update(dict.fromkeys(re.findall(r"\d+", row["cited_doc_ids"]), 1))
    test = read_queries(data("ir", "topics.scifact.test.tsv.gz")), read_judgements(data("ir", "qrels.scifact.test.txt"))
    return documents, (documents, claims, judged), (documents, *test)


def cranfield() -> Set:
    """Cranfield's 1,400 abstracts and 225 queries. Its judgements count queries by place; codes 1 to 4 are answers of
    falling worth, -1 is none."""
    with tarfile.open(data("ir", "cranfield.tar.xz")) as packed:
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


def made(name: str, documents: Sequence[Document], cut: str, home: Path) -> str:
    """The index of a set in one cut, made or gone on with."""
    name = f"{name}-{list(CUTS).index(cut)}"
    config = IndexConfig(cut=CUTS[cut], embedder=EMBEDDER, precision="float16", id_field="_id")
    print(index(documents, into=name, config=config, workspace=home))
    return name


def tuned(found: Index, cut: str, train: Set) -> dict[str, tuple[float, SearchConfig]]:
    """nDCG@10 on training claims of every fusion, by its name. Both parts are searched for once, and joined as a search
    joins them."""
    numbers = {chunk.id: place for place, chunk in enumerate(found.chunks())}
    names = {numbers[chunk.id]: chunk.document_id for chunk in found.chunks()}
    told: dict[str, tuple[float, SearchConfig]] = {}

    def rows(text: str, settings: SearchConfig) -> list[tuple[int, float]]:
        return [(numbers[hit.chunk.id], hit.score) for hit in found.search(text, CHUNKS, settings=settings)]

    vectors = {query: rows(text, SearchConfig(mode="vector")) for query, text in train[1].items()}
    for words_of in ("chunk",) if cut == "whole abstracts" else ("chunk", "document"):
        lexical = SearchConfig(mode="lexical", words_of=words_of)
        words = {query: rows(text, lexical) for query, text in train[1].items()}
        for fusion, depth, weight in itertools.product(("ranks", "scores"), DEPTHS, WEIGHTS):
            ranked: Ranked = {}
            for query in train[1]:
                parts = {"lexical": words[query][:depth], "vector": vectors[query][:depth]}
                joined = fuse(parts, {"lexical": 1.0, "vector": weight}, fusion)
                ranked[query] = first_of_each((names[row], score) for row, score in joined)[:10]
            value = float(np.mean(list(per_query(ranked, train[2], ("nDCG@10",))["nDCG@10"].values())))
            settings = SearchConfig(mode="hybrid", words_of=words_of, fusion=fusion, depth=depth, vector_weight=weight)
            told[f"{cut}, words of a {words_of}, {fusion}, depth {depth}, vectors x {weight:g}"] = (value, settings)
    return told


def first_of_each(scored: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    """Documents, each where its best chunk is."""
    best: dict[str, float] = {}
    for name, score in scored:
        best.setdefault(name, score)
    return list(best.items())


def ranked(found: Index, queries: Mapping[str, str], settings: SearchConfig) -> Ranked:
    return {q: by_document(found.search(text, CHUNKS, settings=settings), 100) for q, text in queries.items()}


def measured(found: Index, whole: Index, test: Set, ways: Mapping[str, SearchConfig]) -> dict[str, Any]:
    """Each way, BM25 of whole documents, and what the hybrids add to their parts."""
    rankings = {"BM25 of whole abstracts": ranked(whole, test[1], SearchConfig(mode="lexical"))}
    rankings |= {way: ranked(found, test[1], settings) for way, settings in ways.items()}
    values = {way: {m: told(v) for m, v in evaluate(one, test[2], MEASURES).items()} for way, one in rankings.items()}
    gains = {
        f"{way} minus {part}": told(difference(rankings[way], rankings[part], test[2]))
        for way in ways
        if way.startswith("hybrid")
        for part in rankings
        if not part.startswith("hybrid")
    }
    return {"ways": values, "gains": gains}


def told(value: Interval) -> dict[str, float]:
    return {"mean": value.value, "low": value.low, "high": value.high, "n": value.n}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--home", type=Path, help="where indexes and embeddings are kept")
    home = parser.parse_args().home or Path(tempfile.mkdtemp(prefix="hybrid-"))
    documents, train, test = scifact()
    other = cranfield()
    with closing(open_embedder(EMBEDDER, "", as_workspace(home))) as embedder:
        indexes = {
            (name, cut): open_index(made(name, one, cut, home), workspace=home, embedder=embedder)
            for name, one in (("scifact", documents), ("cranfield", other[0]))
            for cut in CUTS
        }
        options = {
            name: (cut, *one) for cut in CUTS for name, one in tuned(indexes["scifact", cut], cut, train).items()
        }
        best = max(options, key=lambda name: options[name][1])
        cut, _, chosen = options[best]
        print(best, options[best][1])
        ways = {
            "words": SearchConfig(mode="lexical", words_of=chosen.words_of),
            "vectors": SearchConfig(mode="vector"),
            "hybrid by ranks": SearchConfig(mode="hybrid", words_of=chosen.words_of, fusion="ranks"),
            "hybrid as chosen": chosen,
        }
        sets = {
            title: measured(indexes[name, cut], indexes[name, "whole abstracts"], one, ways)
            for title, name, one in (("SciFact, test", "scifact", test), ("Cranfield", "cranfield", other))
        }
        for found in indexes.values():
            found.close()
    keep(
        "hybrid_retrieval",
        {
            "train": {name: one[1] for name, one in options.items()},
            "chosen": best,
            "claims": len(train[1]),
            "sets": sets,
        },
    )


if __name__ == "__main__":
    main()
