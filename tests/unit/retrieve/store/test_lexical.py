"""BM25 held to its formula, and to bm25s (method lucene), which nobody here wrote."""

from __future__ import annotations

import random
import sqlite3

import numpy as np
import pytest

from bloomery.retrieve.store.lexical import bm25, highest, rewrite_segments, write_segment
from bloomery.retrieve.store.schema import MIGRATIONS, Counters
from bloomery.retrieve.store.snapshot import Snapshot
from bloomery.retrieve.store.terms import Terms

WORDS = [f"w{n}" for n in range(60)]


def texts(count: int, seed: int = 0) -> list[str]:
    drawn = random.Random(seed)
    return [" ".join(drawn.choices(WORDS, weights=range(60, 0, -1), k=drawn.randint(1, 40))) for _ in range(count)]


def filled(parts: list[list[str]]) -> tuple[sqlite3.Connection, np.ndarray]:
    db = sqlite3.connect(":memory:")
    for statement in MIGRATIONS[0]:
        db.execute(statement)
    terms, lengths, row = Terms("unicode61"), [], 0
    for part in parts:
        postings, found = terms.count(part)
        write_segment(db, postings, row)
        lengths.append(found)
        row += len(part)
    return db, np.concatenate(lengths)


def of(lengths: np.ndarray, live: np.ndarray, documents: np.ndarray | None = None) -> Snapshot:
    documents = np.arange(len(lengths)) if documents is None else documents
    return Snapshot(counters=Counters(), documents=documents, lengths=lengths, live=live)


def test_scores_are_those_of_bm25s():
    bm25s = pytest.importorskip("bm25s")
    corpus = texts(300)
    db, lengths = filled([corpus[n : n + 20] for n in range(0, 300, 20)])  # some segments merged, some not
    peer = bm25s.BM25(method="lucene", k1=0.9, b=0.4)
    peer.index([one.split() for one in corpus], show_progress=False)
    for query in (["w1"], ["w0", "w59"], ["w3", "w30", "w31"], ["absent"]):
        ours = bm25(db, dict.fromkeys(query, 1), of(lengths, np.ones(300, bool)), k1=0.9, b=0.4)
        known = [word for word in query if word != "absent"]
        theirs = peer.get_scores(known) if known else np.zeros(300)
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6)  # both sum float32 numbers


def test_dead_rows_count_nowhere():
    corpus = texts(60, seed=1)
    live = np.random.default_rng(0).random(60) < 0.6
    db, lengths = filled([corpus])
    kept, kept_lengths = filled([[one for one, lives in zip(corpus, live, strict=True) if lives]])
    query = {"w2": 1, "w20": 2}
    ours = bm25(db, query, of(lengths, live), k1=1.2, b=0.75)
    assert not ours[~live].any()
    again = bm25(kept, query, of(kept_lengths, np.ones(live.sum(), bool)), k1=1.2, b=0.75)
    np.testing.assert_allclose(ours[live], again, rtol=1e-6)


def test_segments_are_merged_and_rewritten_without_changing_scores():
    corpus = texts(100, seed=2)
    db, lengths = filled([[one] for one in corpus])
    assert db.execute("SELECT count(*) FROM segments").fetchone()[0] < 20
    whole, _ = filled([corpus])
    query, live = {"w5": 1, "w6": 1}, np.ones(100, bool)
    np.testing.assert_array_equal(
        bm25(db, query, of(lengths, live), k1=0.9, b=0.4), bm25(whole, query, of(lengths, live), k1=0.9, b=0.4)
    )
    names = np.arange(100) - 1  # the first row goes
    rewrite_segments(db, names)
    assert db.execute("SELECT count(*) FROM segments").fetchone()[0] == 1
    later, _ = filled([corpus[1:]])
    np.testing.assert_array_equal(
        bm25(db, query, of(lengths[1:], live[1:]), k1=0.9, b=0.4),
        bm25(later, query, of(lengths[1:], live[1:]), k1=0.9, b=0.4),
    )


def test_nothing_asked_and_nothing_there():
    db, lengths = filled([["iron"]])
    assert not bm25(db, {}, of(lengths, np.ones(1, bool)), k1=0.9, b=0.4).any()
    assert not bm25(db, {"iron": 1}, of(lengths, np.zeros(1, bool)), k1=0.9, b=0.4).any()


def test_of_documents_scores_are_those_of_the_chunks_as_one_text():
    corpus = texts(90, seed=3)
    owner = np.repeat(np.arange(30), 3)
    live = owner % 4 != 1
    db, lengths = filled([corpus[:45], corpus[45:]])
    wholes = [" ".join(corpus[3 * n : 3 * n + 3]) for n in range(30) if n % 4 != 1]
    whole, whole_lengths = filled([wholes])
    query = {"w4": 1, "w40": 2, "absent": 1}
    ours = bm25(db, query, of(lengths, live, 7 + owner), k1=0.9, b=0.4, of="document")
    theirs = bm25(whole, query, of(whole_lengths, np.ones(len(wholes), bool)), k1=0.9, b=0.4)
    np.testing.assert_allclose(ours[live], np.repeat(theirs, 3), rtol=1e-5)
    assert not ours[~live].any()


def test_the_highest_score_that_a_text_could_have():
    """Its formula: every term's inverse document frequency, absent ones too; a chunk of nothing but the query, often
    enough, comes near it."""
    corpus = ["w1 w2", "w1 w3", "w4", *["w5"] * 5, " ".join(["w1 w2"] * 200)]
    db, lengths = filled([corpus[:4], corpus[4:]])
    live, known = np.ones(len(corpus), bool), len(corpus)
    query = {"w1": 1, "w2": 2, "absent": 1}
    wanted = sum(n * np.log1p((known - held + 0.5) / (held + 0.5)) for n, held in ((1, 3), (2, 2), (1, 0)))
    assert highest(db, query, of(lengths, live)) == pytest.approx(float(wanted))
    del query["absent"]
    scores, most = bm25(db, query, of(lengths, live), k1=0.9, b=0.0), highest(db, query, of(lengths, live))
    assert 0.99 * most < scores.max() < most
