"""Features are those of scikit-learn's own vectorizers, fitted on training samples alone."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.adapt.classic.features import FeatureConfig, count, fit_features
from bloomery.core.errors import ConfigError, DataError
from bloomery.evaluate.sample import Sample


def test_rows_are_tf_idf_of_words_beside_that_of_characters(texts):
    """Up to the order of columns, which hashing decides: so the products of rows are compared. 2**24 buckets, in which
    none of these few n-grams meet."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    train, other = texts(60), texts(20, seed=1)
    config = FeatureConfig(bits=24)
    fitted = fit_features(count(train, config), config)
    ours = [fitted.rows(count(some, config)) for some in (train, other)]
    kinds = ({"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"}, {"ngram_range": (2, 5), "analyzer": "char_wb"})
    theirs_train, theirs_other = [], []
    for kind in kinds:
        # log(1 + tf) where theirs is 1 + log(tf): the same up to a factor only where tf is the same, so tf is theirs.
        found = TfidfVectorizer(**kind)
        counted = found.fit_transform([one.input for one in train])
        for rows, some in ((theirs_train, train), (theirs_other, other)):
            plain = found.transform([one.input for one in some])
            raw = TfidfVectorizer(**kind, use_idf=False, norm=None, vocabulary=found.vocabulary_)
            raw.fit([one.input for one in train])
            counts = raw.transform([one.input for one in some])
            counts.data = np.log1p(counts.data)
            weighed = counts.multiply(found.idf_).tocsr()
            from sklearn.preprocessing import normalize

            rows.append(normalize(weighed))
            assert plain.shape == weighed.shape
        assert counted.shape[0] == len(train)
    theirs = [hstack(rows).tocsr() for rows in (theirs_train, theirs_other)]
    assert ours[0].shape[1] == theirs[0].shape[1]
    for a in (0, 1):
        # idf is kept in float32: relative 6e-8 in each of two factors.
        np.testing.assert_allclose((ours[a] @ ours[0].T).toarray(), (theirs[a] @ theirs[0].T).toarray(), atol=1e-6)


def test_counts_alone(texts):
    config = FeatureConfig(weighted=False, characters=(), words=(1, 1))
    samples = [Sample(id="1", input="a a b"), Sample(id="2", input="b c")]
    rows = fit_features(count(samples, config), config).rows(count(samples, config)).toarray()
    assert sorted(rows[0]) == [0.0, 1.0, 2.0] and rows[1].sum() == 2


def test_directions_span_what_truncated_svd_spans(texts):
    config = FeatureConfig(kind="reduced", directions=5)
    counted = count(texts(50), config)
    found = fit_features(counted, config, seed=1).rows(counted)
    assert found.shape == (50, 5)
    words = FeatureConfig(kind="words")
    weighed = fit_features(counted, words).rows(counted).toarray()
    values = np.linalg.svd(weighed, compute_uv=False)[:5]
    assert np.linalg.norm(found, axis=0)[0] == pytest.approx(values[0], rel=1e-4)  # the first is found exactly


def test_columns_with_gaps():
    samples = [Sample(id=str(n), input="", metadata={"a": n, "b": None if n == 2 else 2 * n}) for n in range(4)]
    config = FeatureConfig(kind="columns", columns=("a", "b"), scaled=True)
    counted = count(samples, config)
    assert np.isnan(counted[2, 1])
    rows = fit_features(counted, config).rows(counted)
    np.testing.assert_allclose(rows[:, 0], (np.arange(4) - 1.5) / np.std(np.arange(4)))
    assert rows[2, 1] == 0
    with pytest.raises(DataError, match="sample '1'"):
        count([Sample(id="1", input="", metadata={"a": "x", "b": 1})], config)


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "columns"}, {"words": (2, 1)}, {"words": (), "characters": ()}, {"bits": 2}, {"directions": 0}],
)
def test_settings_that_cannot_be_meant(wrong):
    with pytest.raises(ConfigError):
        FeatureConfig(**wrong)
