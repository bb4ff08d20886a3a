"""Shared runs of words: against brute force over tuples of words."""

from __future__ import annotations

import lzma
import re
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bloomery.corpus import decontaminate
from bloomery.corpus.decontaminate import HeldOutRuns, RunHasher, in_batches, length_of, overlaps, words_of
from bloomery.corpus.document import Document

_TEXTS = st.lists(
    st.lists(st.sampled_from(["a", "B", "c,", "d.\n", "今", "天天"]), max_size=12).map(" ".join), max_size=6
)


def _runs(text: str, length: int) -> set[tuple[str, ...]]:
    """By brute force; a character of Chinese is half a word."""
    words = [w for run in re.findall(r"\w+", text.casefold()) for w in (run if run[0] in "今天" else [run])]
    found = set()
    for start in range(len(words)):
        for end in range(start + 1, len(words) + 1):
            if sum(0.5 if word in "今天" else 1 for word in words[start:end]) >= length:
                found.add(tuple(words[start:end]))
                break
    return found


def _sealed(folder: Path, texts: list[str], hasher: RunHasher) -> HeldOutRuns:
    runs = HeldOutRuns(folder, hasher)
    for text in texts:
        runs.add(words_of(text))
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
    assert words_of("Straße, naïve—吾輩 x_1") == ["strasse", "naïve", "吾", "輩", "x_1"]
    assert words_of("नमस्ते दुनिया") == ["नमस्ते", "दुनिया"]  # \w would cut at every vowel sign
    assert length_of(words_of("one 今天天气 two")) == 4.0


def test_words_of_ascii_are_those_of_a_regular_expression(shared_data: Path):
    text = lzma.decompress((shared_data / "text" / "gatsby.txt.xz").read_bytes()).decode()
    text = (
        text.encode("ascii", "ignore").decode()
        + "".join(map(chr, range(128)))
        + Path(__file__).read_text("ascii", "ignore")
    )
    assert words_of(text) == re.findall(r"\w+", text.casefold())


def test_clauses_of_scripts_without_spaces_are_found(tmp_path: Path, shared_data: Path):
    """A sentence of MASSIVE within another text, without anything between them; a third of it is not enough."""
    for language in ("zh", "ja", "th", "km"):
        with lzma.open(shared_data / "massive" / f"{language}.tsv.xz", "rt", encoding="utf-8") as lines:
            texts = [line.rstrip("\n").split("\t")[3] for line in islice(lines, 2000)]
        sentence, first, last = max(texts, key=len), texts[0], texts[1]
        hasher = RunHasher(13)
        held_out = {"held": _sealed(tmp_path / language, [sentence], hasher)}
        third = sentence[: len(sentence) // 3]
        given = [Document.of(first + part + last, "s") for part in (sentence, third[:24])]
        assert [reason for _, reason, _ in overlaps(given, hasher, held_out)] == ["held", ""], language


def test_batches_are_of_about_a_megabyte():
    large = [Document.of("x" * 600_000, "")] * 5
    assert [len(batch) for batch in in_batches(large)] == [2, 2, 1]
    assert list(in_batches([])) == []


def test_words_may_count_alike(tmp_path: Path):
    hasher = RunHasher(2, halves=False)
    given = [Document.of(text, "") for text in ("x今天", "天今x")]
    judged = overlaps(given, hasher, {"r": _sealed(tmp_path, ["a今天"], hasher)})
    assert [shared for _, _, shared in judged] == ["今 天", ""]
