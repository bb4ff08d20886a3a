"""Contamination: a run of 13 words, or a text of 8 to 12 whole, wherever it stands; shorter texts say nothing."""

from __future__ import annotations

import random

from bloomery.corpus.document import Document
from bloomery.evaluate.contamination import Sought

WORDS = [f"word{n}" for n in range(2000)]


def text(rng: random.Random, count: int) -> list[str]:
    return [rng.choice(WORDS) for _ in range(count)]


def test_what_is_planted_is_found_and_nothing_else():
    rng = random.Random(5)
    samples = [[" ".join(text(rng, 40)), "short text of five words"] for _ in range(50)]
    samples += [[" ".join(text(rng, 9))], ["short text of five words"]]
    documents = [text(rng, 300) for _ in range(40)]
    for sample, at, upper in ((3, 7, False), (17, 0, True), (50, 11, False)):
        run = samples[sample][0].split()[5:18] if sample < 50 else samples[sample][0].split()
        documents[at][100:100] = [one.upper() + "," for one in run] if upper else run
    documents[20][10:10] = samples[30][0].split()[:12]  # one word less than a run
    documents[21][10:10] = ["short", "text", "of", "five", "words"]
    documents[22][10:10] = samples[50][0].split()[:8]  # not whole
    heard: list[int] = []
    found = Sought(samples).found((Document.of(" ".join(one), "here") for one in documents), heard.append)
    assert sorted(found.shared) == [3, 17, 50]
    assert found.checked == 51 and found.documents == 40 == heard[-1]
    words, document = found.shared[3]
    assert words == " ".join(samples[3][0].split()[5:18]) and document == Document.of(" ".join(documents[7]), "x").id


def test_nothing_to_look_for():
    found = Sought([["short"], []]).found([Document.of("short", "here"), Document.of("", "there")])
    assert found.checked == 0 and not found.shared and found.documents == 2
