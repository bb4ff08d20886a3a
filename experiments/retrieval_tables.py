"""Tables of retrieval for docs/results.md: trained models, words and meaning, what is not in the documents.

This module does not know which results there are (see `write_results`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common import shown
from label_tables import table


def retrieval_training(found: Mapping[str, Any]) -> str:
    """An embedding model and a reranker, before and after."""
    rows = [[name, shown(one, ".3f")] for name, one in {**found["ndcg_at_10"], **found["gains"]}.items()]
    counts = found["claims"]
    return (
        f"nDCG@10 of SciFact's 300 test claims over 5,183 abstracts, of which the models read the first 128 tokens; "
        f"MiniLM trained on {counts['learn']} claims that cite no document of the test ({counts['left_out']} others "
        "left out), with BM25's hard negatives; settings were not tuned. Differences are paired by claim.\n\n"
        + table(["ranked by", "nDCG@10"], rows)
    )


def not_in_documents(found: Mapping[str, Any]) -> str:
    """The gate before a model is asked."""
    rows = []
    for name, arms in found.items():
        for arm, one in arms.items() if isinstance(arms, dict) else ():
            if arm in ("gate", "best score", "gate, Cranfield"):
                told = [shown(one[key], ".2f") for key in ("area", "answerable_refused", "unanswerable_refused")]
                rows.append([f"{name}, {arm}" + (f" ({' + '.join(arms['figures'])})" if arm == "gate" else ""), *told])
    return (
        f"{found['test']} test claims of SciFact, about half of which lost every document that they cite. A gate reads "
        f"figures of the search, chosen by cross-validation on {found['dev']} training claims; its threshold refuses "
        f"{found['lost']:.0%} of the answerable among these. Beside it the best score alone, with a threshold found "
        "alike; and the same gate on queries of Cranfield, with and without the documents that answer them.\n\n"
        + table(["search", "area under curve", "answerable refused", "unanswerable refused"], rows)
        + "\n\nOf Cranfield's queries to SciFact's documents, another subject, it refuses "
        + "; ".join(
            f"{shown(found[mode]['another subject'], '.2f')} ({mode})" for mode in ("hybrid", "vector", "lexical")
        )
        + ".\n"
    )


def hybrid_retrieval(found: Mapping[str, Any]) -> str:
    """Words, meaning, and both."""
    text = [
        "Abstracts of SciFact and Cranfield in bloomery's index: BM25, exact search over MiniLM's vectors, and both. "
        f"Of {len(found['train'])} ways to cut and join, tried on {found['claims']} training claims of SciFact, the "
        f"best: {found['chosen']} (nDCG@10 {found['train'][found['chosen']]:.3f} there). Tests were measured once, by "
        "it and by reciprocal ranks. Published for BM25 on SciFact: .679 (Anserini). Intervals are BCa over queries."
    ]
    for name, one in found["sets"].items():
        rows = [
            [way, *(shown(values[measure], ".3f") for measure in ("nDCG@10", "R@100", "RR"))]
            for way, values in one["ways"].items()
        ]
        count = next(iter(one["ways"].values()))["nDCG@10"]["n"]
        text.append(table([f"{name}, {count} queries", "nDCG@10", "recall@100", "MRR"], rows))
        text.append(table(["paired by query", "nDCG@10"], [[k, shown(v, "+.3f")] for k, v in one["gains"].items()]))
    return "\n\n".join(text)
