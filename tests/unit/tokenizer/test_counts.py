"""Counting words: the same counts and the same merges in memory and on disk, and counts that fit 32 bits."""

from __future__ import annotations

import json
import lzma
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from bloomery.tokenizer.counts import SEPARATOR, WordCounts, counter_of, fed, halvings
from bloomery.tokenizer.train import TokenizerConfig, learn


def words_of(texts: list[str], **options) -> WordCounts:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    counts = WordCounts(counter_of(backend), **options)
    counts.add(texts)
    return counts


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(alphabet="ab\\ \n\t'é", max_size=30), max_size=8))
def test_counts_are_those_of_python(texts: list[str]):
    whitespace = pre_tokenizers.Whitespace()
    expected = Counter(word for text in texts for word, _ in whitespace.pre_tokenize_str(text))
    counts = words_of(texts, max_words=1000)
    assert counts.most() == sorted(expected.items()) and counts.occurrences == sum(expected.values())


def test_runs_on_disk_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bloomery.tokenizer.counts._CHUNK_CHARACTERS", 200)
    texts = [f"w{n % 50} w{n % 50} v{n % 3}\n" for n in range(600)]
    inside = words_of(texts, max_words=10_000)
    outside = words_of(texts, max_words=20, folder=tmp_path)
    assert outside.spills > 3 and inside.spills == 0
    every = dict(inside.most())
    kept = dict(outside.most())
    # 53 words: the three v are the most frequent; the fifty w are as frequent as one another and do not all fit.
    assert kept == {word: count for word, count in every.items() if word.startswith("v")}
    assert outside.left_out == sum(count for word, count in every.items() if word.startswith("w"))
    assert dict(outside._merged()) == every


@settings(max_examples=60, deadline=None)
@given(words=st.dictionaries(st.text(alphabet="a\\n\n\t é", min_size=1, max_size=6), st.integers(1, 9), max_size=9))
def test_any_word_comes_back_from_disk(words: dict[str, int], tmp_path_factory: pytest.TempPathFactory):
    counts = WordCounts(Tokenizer(models.BPE()), max_words=1000, folder=tmp_path_factory.mktemp("runs"))
    for _ in range(2):
        counts._table = Counter(words)
        counts._spill()
    assert dict(counts._merged()) == {word: 2 * count for word, count in words.items()}


def test_merges_are_those_of_the_text_itself(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Counted first, in memory or on disk, the library learns what it learns from the text."""
    monkeypatch.setattr("bloomery.tokenizer.counts._CHUNK_CHARACTERS", 20_000)
    with lzma.open(shared_data / "text" / "botchan_en.txt.xz", "rt", encoding="utf-8") as stream:
        texts = stream.read(120_000).splitlines(keepends=True)
    facts: dict[str, int] = {}
    plain = learn(texts, TokenizerConfig(vocab_size=900))
    counted = learn(texts, TokenizerConfig(vocab_size=900, count_first=True), facts=facts.update)
    assert json.loads(plain.to_str()) == json.loads(counted.to_str())
    assert facts["left_out"] == facts["spills"] == 0 and facts["occurrences"] > facts["words"] > 1000
    most = WordCounts.most

    def spilt_at_end(self: WordCounts) -> list[tuple[str, int]]:
        found = most(self)
        assert self.spills > 2 and self.left_out == 0
        return found

    def small(self: WordCounts, chunk: list[str]) -> None:
        self._max_words, kept = 200, self._max_words
        count(self, chunk)
        self._max_words = kept

    count = WordCounts._count
    monkeypatch.setattr(WordCounts, "_count", small)
    monkeypatch.setattr(WordCounts, "most", spilt_at_end)
    spilt = learn(texts, TokenizerConfig(vocab_size=900, count_first=True), folder=tmp_path)
    assert json.loads(plain.to_str()) == json.loads(spilt.to_str())


def test_words_are_fed_as_often_as_they_occur():
    words = [("a", 3), ("bc", 70_000), ("d", 1)]
    texts = list(fed(words))
    assert Counter("".join(texts).split(SEPARATOR)[:-1]) == Counter(dict(words))
    assert max(map(len, texts)) <= (1 << 16) + 4 and all(text.endswith(SEPARATOR) for text in texts)


def test_counts_that_do_not_fit_are_halved():
    assert halvings([("ab", 100), ("c", 1 << 40)]) == 0  # nothing is merged in a single letter
    times = halvings([("ab", 5 << 30), ("abc", 1 << 30)])
    assert times == 2
    halved = [(word, -(-count >> times)) for word, count in [("ab", 5 << 30), ("abc", (1 << 30) + 1)]]
    assert halved == [("ab", 5 << 28), ("abc", (1 << 28) + 1)]
    assert "".join(fed([("ab", 5)], halved=1)).count("ab") == 3
