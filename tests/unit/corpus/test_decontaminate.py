"""Shared runs of words: against brute force over tuples of words."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bloomery.corpus import decontaminate
from bloomery.corpus.decontaminate import HeldOutRuns, RunHasher, in_batches, overlaps, words_of
from bloomery.corpus.document import Document

_TEXTS = st.lists(st.lists(st.sampled_from(["a", "B", "c,", "d.\n"]), max_size=12).map(" ".join), max_size=6)


def _runs(text: str, length: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


def _sealed(folder: Path, texts: list[str], hasher: RunHasher) -> HeldOutRuns:
    runs = HeldOutRuns(folder, hasher)
    for text in texts:
        runs.add(text)
    runs.seal()
    return runs


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(train=_TEXTS, first=_TEXTS, second=_TEXTS, length=st.integers(1, 5))
def test_it_finds_what_brute_force_finds(
    tmp_path: Path, train: list[str], first: list[str], second: list[str], length: int
):
    hasher = RunHasher(length)
    held_out = {
        "first": _sealed(tmp_path / "first", first, hasher),
        "second": _sealed(tmp_path / "second", second, hasher),
    }
    naive = {"first": [_runs(t, length) for t in first], "second": [_runs(t, length) for t in second]}
    documents = [Document.of(text, "s") for text in train]
    judged = list(overlaps(documents, hasher, held_out))
    assert [document for document, _, _ in judged] == documents
    for document, reason, shared in judged:
        own = _runs(document.text, length)
        expected = next((name for name, sets in naive.items() if any(own & s for s in sets)), "")
        assert reason == expected
        assert not reason or any(tuple(shared.split()) in s for s in naive[reason])


def test_real_text_in_small_batches_and_buckets(tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch):
    import lzma

    monkeypatch.setattr(decontaminate, "_BATCH_CHARACTERS", 3000)
    monkeypatch.setattr(decontaminate, "_BUFFER_RUNS", 5000)
    monkeypatch.setattr(decontaminate, "_KNOWN_WORDS", 500)
    text = lzma.decompress((shared_data / "text" / "gatsby.txt.xz").read_bytes()).decode()
    paragraphs = text.split("\n\n")
    held_out, train = paragraphs[::3], [p for i, p in enumerate(paragraphs) if i % 3]
    train[5] = "Something new, " + held_out[7].upper() + " and an end."
    for length in (4, 13):
        hasher = RunHasher(length)
        runs = _sealed(tmp_path / str(length), held_out, hasher)
        together = set().union(*(_runs(p, length) for p in held_out))
        judged = list(overlaps([Document.of(p, "s") for p in train], hasher, {"overlap": runs}))
        assert [bool(reason) for _, reason, _ in judged] == [bool(_runs(p, length) & together) for p in train]
        assert len(runs) == len(together)


def test_hashes_depend_on_the_order_of_words_and_on_nothing_else():
    hasher, other = RunHasher(3), RunHasher(3)
    first = hasher.hashes(words_of("one two three two one"))
    assert len(set(first.tolist())) == 3
    assert (other.hashes(words_of("ONE, two; (Three) two one")) == first).all()
    assert hasher.hashes(["a", "b"]).shape == (0,)
    # The same on every machine and in every version: a corpus's content depends on it.
    assert RunHasher(2).hashes(["held", "out"]).dtype == np.uint64


def test_words_are_casefolded_and_of_any_script():
    assert words_of("Straße, naïve—吾輩は猫 x_1") == ["strasse", "naïve", "吾輩は猫", "x_1"]


def test_batches_are_of_about_a_megabyte():
    large = [Document.of("x" * 600_000, "")] * 5
    assert [len(batch) for batch in in_batches(large)] == [2, 2, 1]
    assert list(in_batches([])) == []


def test_a_hasher_may_have_other_words(tmp_path: Path):
    hasher = RunHasher(2, lambda text: list(text))
    assert [
        bool(r)
        for _, r, _ in overlaps(
            [Document.of(t, "") for t in ("xbc", "xcb")], hasher, {"r": _sealed(tmp_path, ["abc"], hasher)}
        )
    ] == [True, False]
