"""MinHash: on the S-curve for sets whose Jaccard similarity is known, and as datasketch estimates it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bloomery.corpus.minhash import Signer, WordHasher, agreement, mix, s_curve, threshold, words_of

SIMILARITIES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9)
_PAIRS = 2000
_UNION = 80


def _pairs(rng: np.random.Generator, similarity: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(count, n) and (count, n) elements of sets of exactly this similarity: |union| 80, |intersection| s * 80."""
    shared = round(similarity * _UNION)
    assert shared == pytest.approx(similarity * _UNION) and (_UNION - shared) % 2 == 0
    own = (_UNION - shared) // 2
    elements = rng.integers(0, (1 << 64) - 1, size=(count, _UNION), dtype=np.uint64, endpoint=True)
    return elements[:, : shared + own], np.delete(elements, np.s_[shared : shared + own], axis=1)


def _found(signer: Signer, pairs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Which pairs share a band."""
    keys = []
    for side in pairs:
        signatures, _ = signer.signatures_of_shingles(side.ravel(), np.full(len(side), side.shape[1]))
        keys.append(signer.band_keys(signatures))
    return (keys[0] == keys[1]).any(axis=1)


def test_recall_of_14_bands_of_8_is_within_two_standard_errors_of_the_curve_at_seven_similarities():
    rng, signer = np.random.default_rng(0), Signer(bands=14, rows=8)
    for similarity in SIMILARITIES:
        expected = 1 - (1 - similarity**8) ** 14
        recall = _found(signer, _pairs(rng, similarity, _PAIRS)).mean()
        assert abs(recall - expected) <= 2 * np.sqrt(expected * (1 - expected) / _PAIRS), similarity


@pytest.mark.parametrize("shape", [(14, 8), (20, 5)])
def test_recall_lies_on_the_curve_whatever_the_permutations(shape: tuple[int, int]):
    """Two standard errors are met by 19 of 20 points of the truth: all points of ten seeds, by chi squared."""
    bands, rows = shape
    squares = []
    for seed in range(10):
        rng, signer = np.random.default_rng([1, seed]), Signer(bands=bands, rows=rows, seed=seed)
        for similarity in SIMILARITIES:
            expected = 1 - (1 - similarity**rows) ** bands
            found = _found(signer, _pairs(rng, similarity, 400)).sum()
            if 400 * (1 - expected) > 5:  # where the normal distribution is near enough
                squares.append((found - 400 * expected) ** 2 / (400 * expected * (1 - expected)))
    assert stats.chi2.cdf(sum(squares), len(squares)) == pytest.approx(0.5, abs=0.499)


def test_the_curve_and_its_threshold_are_the_published_ones():
    """FineWeb, section 3.4: 56%, 77%, 92% and 98.8% at .7, .75, .8 and .85; datatrove: a threshold of about .72."""
    percents = [round(100 * s_curve(s, bands=14, rows=8), 1) for s in (0.7, 0.75, 0.8, 0.85)]
    assert percents == [56.5, 77.2, 92.4, 98.8]
    assert threshold(bands=14, rows=8) == pytest.approx(0.719, abs=5e-4)


def test_similarities_are_estimated_as_datasketch_estimates_them():
    datasketch = pytest.importorskip("datasketch")
    rng, signer = np.random.default_rng(5), Signer(bands=16, rows=8)
    for similarity in (0.5, 0.8, 0.9):
        pairs = _pairs(rng, similarity, 60)
        ours = [signer.signatures_of_shingles(s.ravel(), np.full(60, s.shape[1]))[0] for s in pairs]
        theirs = [datasketch.MinHash.bulk([[x.tobytes() for x in row] for row in s], num_perm=128) for s in pairs]
        error = np.sqrt(similarity * (1 - similarity) / 128 / 60)
        assert abs(agreement(*ours).mean() - similarity) < 4 * error
        peer = np.mean([one.jaccard(other) for one, other in zip(*theirs, strict=True)])
        assert abs(agreement(*ours).mean() - peer) < 4 * np.sqrt(2) * error


def test_shingles_are_the_runs_of_words_of_each_text_alone():
    signer = Signer(words=3)
    texts = ["One two, three four!", "", "two three", "two THREE", "one two three", "...", "one two three four"]
    shingles, counts = signer.shingles(texts)
    assert counts.tolist() == [2, 0, 1, 1, 1, 0, 2]
    parts = np.split(shingles, np.cumsum(counts)[:-1])
    assert parts[0].tolist() == parts[6].tolist() and parts[2].tolist() == parts[3].tolist()
    assert parts[0][0] == parts[4][0] and parts[0][1] != parts[0][0] != parts[2][0]
    signatures, _ = signer.signatures(texts)
    assert (signatures[1] == 0xFFFFFFFF).all() and (signatures[0] == signatures[6]).all()
    for place, text in enumerate(texts):  # alone as in a batch
        assert (signer.signatures([text])[0][0] == signatures[place]).all()


def test_a_signature_is_the_least_of_each_permutation():
    rng, signer = np.random.default_rng(2), Signer(bands=3, rows=2)
    sets = [rng.integers(0, 1 << 63, size=n, dtype=np.uint64) for n in (1, 50_000, 7, 0, 20_000)]
    signatures, _ = signer.signatures_of_shingles(np.concatenate(sets), np.array([len(s) for s in sets]))
    for row, elements in zip(signatures, sets, strict=True):
        for value, a, b in zip(row.tolist(), signer._factors.tolist(), signer._terms.tolist(), strict=True):
            least = min(((a * x + b) % (1 << 64) >> 32 for x in elements.tolist()[:200]), default=0xFFFFFFFF)
            assert value == least if len(elements) <= 200 else value <= least


def test_words_of_scripts_without_spaces_are_characters_and_marks_are_parts_of_words():
    assert words_of("Das ist_gut: 吾輩は猫 and 3.5%") == ["das", "ist", "gut", *"吾輩は猫", "and", "3", "5"]
    assert words_of("हिन्दी भाषा।") == ["हिन्दी", "भाषा"]
    assert words_of("naïve café’s") == ["naïve", "café", "s"]
    assert words_of(" —!?\n") == []


def test_mixing_is_one_to_one_and_hashes_are_the_same_on_every_machine():
    values = np.arange(100_000, dtype=np.uint64)
    assert len(np.unique(mix(values))) == len(values)
    # SplitMix64's own first number from seed 0 is the mixing of its increment.
    assert int(mix(np.array([0x9E3779B97F4A7C15], np.uint64))[0]) == 0xE220A8397B1DCDAF
    assert WordHasher().hashes(["word", "word", ""]).tolist()[0] == WordHasher().hashes(["word"]).tolist()[0]
