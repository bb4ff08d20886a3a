"""Repeated runs: against brute force over all windows, and against a suffix array with its longest common prefixes."""

from __future__ import annotations

import lzma
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bloomery.corpus import repeats, spill
from bloomery.corpus.minhash import WordHasher
from bloomery.corpus.repeats import RepeatIndex, spans_of, window_hashes, words_of

_CHECKS = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)  # a busy machine is slow
_TEXTS = st.lists(st.lists(st.sampled_from(["a", "b", "A", "c."]), max_size=14), max_size=6)


def _covered(texts: list[list[str]], size: int) -> list[list[bool]]:
    """Of each word whether it is in a window that begins, as the first of its kind, at least `size` words earlier."""
    first: dict[tuple[str, ...], int] = {}
    found, place = [], 0
    for words in texts:
        covered = [False] * len(words)
        for start in range(len(words) - size + 1):
            window = tuple(words[start : start + size])
            if place + start - first.setdefault(window, place + start) >= size:
                covered[start : start + size] = [True] * size
        found.append(covered)
        place += len(words)
    return found


def _cut(folder: Path, texts: list[str], size: int) -> list[list[tuple[int, int, int]]]:
    index = RepeatIndex(folder, size)
    for text in texts:
        index.add(text)
    index.seal()
    found = [index.cuts() for _ in texts]
    index.close()
    assert not folder.exists()
    return found


@settings(suppress_health_check=_CHECKS, max_examples=60, deadline=None)
@given(texts=_TEXTS, size=st.integers(1, 5), batch=st.integers(1, 30), fits=st.integers(1, 20))
def test_what_is_cut_is_what_brute_force_cuts(
    tmp_path: Path, texts: list[list[str]], size: int, batch: int, fits: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(repeats, "_BATCH_WORDS", batch)
    monkeypatch.setattr(spill, "SORTED_RECORDS", fits)
    runs = _cut(tmp_path / "index", [" ".join(words) for words in texts], size)
    expected = _covered(texts, size)
    found = [[False] * len(words) for words in texts]
    for place, (words, own) in enumerate(zip(texts, runs, strict=True)):
        for start, end, first in own:
            assert 0 <= start < end <= len(words) and not any(found[place][start:end])
            found[place][start:end] = [True] * (end - start)
            window = words[start : start + size]
            assert any(texts[first][i : i + size] == window for i in range(len(texts[first]) - size + 1))
            assert first <= place
    assert found == expected


def test_the_windows_are_those_of_a_suffix_array(tmp_path: Path):
    """Lee et al.'s way: neighbours in the suffix array whose common prefix is long enough."""
    pydivsufsort = pytest.importorskip("pydivsufsort")
    rng = random.Random(8)
    size = 6
    pool = [rng.choices("abcdefgh", k=rng.randrange(4, 15)) for _ in range(40)]
    texts = [[w for _ in range(rng.randrange(1, 8)) for w in rng.choice(pool)] for _ in range(120)]
    symbols = np.array([ord(w) for t in texts for w in [*t, "\n"]], np.uint8)  # one text's end is not another's begin
    array = pydivsufsort.divsufsort(symbols)
    prefix = pydivsufsort.kasai(symbols, array)
    ends = np.flatnonzero(symbols == ord("\n"))
    expected = np.zeros(len(symbols), bool)
    start = 0
    for stop in [*(np.flatnonzero(prefix < size) + 1).tolist(), len(array)]:  # suffixes that begin alike
        places = np.sort(array[start:stop]).astype(int)
        start = max(start, stop)
        for place in places:
            within = ends[np.searchsorted(ends, place)] - place >= size
            separators = np.searchsorted(ends, place) - np.searchsorted(ends, places[0])
            if within and place - places[0] - separators >= size:
                expected[place : place + size] = True
    found = np.zeros(len(symbols), bool)
    begin = 0
    for words, runs in zip(texts, _cut(tmp_path / "index", [" ".join(t) for t in texts], size), strict=True):
        for first, last, _ in runs:
            found[begin + first : begin + last] = True
        begin += len(words) + 1
    assert found.any() and found.tolist() == expected.tolist()


def test_a_window_of_any_length_is_hashed_by_all_of_its_words():
    words = WordHasher().hashes(
        ["a", "b", "c", "d", "e", "f", "a", "b", "c", "d", "e", "g", "b", "a", "c", "d", "e", "f"]
    )
    for size in range(1, 8):
        hashes = window_hashes(words, size)
        windows = [tuple(words[i : i + size].tolist()) for i in range(len(words) - size + 1)]
        assert len(hashes) == len(windows) and len(set(hashes.tolist())) == len(set(windows))
    assert len(window_hashes(words, 19)) == 0


def test_spans_end_where_the_next_word_that_stays_begins():
    text = " one  two\n\nthree four\tfive \n"
    assert [text[a:b] for a, b in spans_of(text, [(1, 3, 0), (4, 5, 0)])] == ["two\n\nthree ", "five \n"]


def test_characters_are_the_words_of_scripts_without_spaces(tmp_path: Path):
    sentence = "吾輩は猫である。名前はまだ無い"
    texts = [f"A {sentence}", f"むかし {sentence[:10]}とさ, and so on"]
    (run,) = _cut(tmp_path / "index", texts, 8)[1]
    ((start, end),) = spans_of(texts[1], [run])
    assert texts[1][:start] + texts[1][end:] == "むかし とさ, and so on"
    for text in (*texts, "plain ASCII\x1cwith\x0bodd\tspaces "):
        assert "".join(words_of(text)) == "".join(text.split())
    assert words_of("a\x1cb c") == ["a", "b", "c"]


@pytest.mark.parametrize("language", ["zh", "ja", "th", "km", "my"])
def test_a_passage_without_spaces_is_found_wherever_it_stands(language: str, shared_data: Path, tmp_path: Path):
    with lzma.open(shared_data / "massive" / f"{language}.tsv.xz", "rt", encoding="utf-8") as lines:
        found = dict.fromkeys("".join(line.rstrip("\n").split("\t")[-1].split()) for line in lines)
    sentences = iter([sentence for sentence in found if sentence.strip()])

    def passage(characters: int) -> str:
        text = ""
        while len(text) < characters:
            text += next(sentences)
        return text

    rng, size = random.Random(4), 50
    planted = [passage(size + 10) for _ in range(12)]
    plain = [passage(200) for _ in range(24)]
    texts = []
    for number, text in enumerate(plain):
        cut = rng.randrange(10, len(text) - 10)
        texts.append(text[:cut] + planted[number % 12] + text[cut:])
    runs = _cut(tmp_path / "index", texts, size)
    assert runs[:12] == [[]] * 12
    for number, text in enumerate(texts[12:]):
        ((start, end),) = spans_of(text, runs[12 + number])
        assert planted[number] in text[start:end] and end - start < len(planted[number]) + 5  # beside it by chance
        assert runs[12 + number][0][2] == number
