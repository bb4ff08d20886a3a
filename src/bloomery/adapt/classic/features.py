"""Features: samples as rows of numbers, for models that know no words.

    words     hashed n-grams of words and characters: log(1 + count), inverse document frequency, length 1
    reduced   the same through a truncated SVD, dense: for trees and clusters (latent semantic analysis)
    columns   numbers of the samples' metadata

What is counted does not depend on other samples; what is fitted (frequencies, directions, means) comes from the
training samples alone. This module does not know labels.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bloomery.core.errors import ConfigError, DataError, MissingExtraError
from bloomery.evaluate.sample import Sample

Matrix = Any
"""(N, F): a scipy CSR matrix, or a dense float64 array."""
_CHARACTERS = 20_000


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """How samples become rows."""

    kind: Literal["words", "reduced", "columns"] = "words"
    """See the module."""
    words: tuple[int, ...] = (1, 2)
    """The least and the greatest number of words of an n-gram; empty: none."""
    characters: tuple[int, ...] = (2, 5)
    """The same of characters within words; empty: none."""
    bits: int = 20
    """2**bits buckets of each kind of n-gram; what no training text holds is no feature."""
    least_texts: int = 1
    """N-grams of fewer training texts are left out."""
    weighted: bool = True
    """By inverse document frequency, and rows of length 1; otherwise plain counts."""
    directions: int = 64
    """Of reduced."""
    columns: tuple[str, ...] = ()
    """Of columns: metadata keys."""
    scaled: bool = False
    """Of columns: to mean 0 and deviation 1; trees need it not."""

    def __post_init__(self) -> None:
        if self.kind == "columns" and not self.columns:
            raise ConfigError('features of kind "columns" need names of metadata', hint='columns = ["amount"]')
        for name in ("words", "characters"):
            span = getattr(self, name)
            if span and (len(span) != 2 or not 1 <= span[0] <= span[1] <= 16):
                raise ConfigError(f'"{name}" is the least and the greatest n, from 1 to 16, not {list(span)}')
        if self.kind != "columns" and not (self.words or self.characters):
            raise ConfigError("texts without words and characters have no features")
        if not 4 <= self.bits <= 24 or not 1 <= self.directions <= 4096:
            raise ConfigError('"bits" is from 4 to 24, "directions" from 1 to 4,096')


@dataclass(frozen=True)
class Features:
    """Fitted features; `arrays` is all that was fitted."""

    config: FeatureConfig
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def rows(self, counted: Matrix) -> Matrix:
        """(N, F) features of what `count` made."""
        if self.config.kind == "columns":
            if not self.config.scaled:
                return counted
            return np.nan_to_num((counted - self.arrays["mean"]) / self.arrays["deviation"])
        weighed = _weighed(counted, self.config, self.arrays)
        if self.config.kind == "words":
            return weighed
        return weighed @ self.arrays["directions"].T.astype(np.float64)


def count(samples: Sequence[Sample], config: FeatureConfig) -> Matrix:
    """What a sample's own content gives: counts of n-grams (N, buckets), or columns (N, C) with nan where one is
    missing. DataError naming the sample whose column is no number; MissingExtraError without scikit-learn."""
    if config.kind == "columns":
        return np.array([[_number(one, name) for name in config.columns] for one in samples], dtype=np.float64)
    try:
        from scipy.sparse import csr_matrix, hstack
        from sklearn.feature_extraction.text import HashingVectorizer
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "adapt", "a classic model") from error
    texts = [one.input[:_CHARACTERS] for one in samples]
    parts = []
    for span, analyzer in ((config.words, "word"), (config.characters, "char_wb")):
        if span:
            make: Any = HashingVectorizer
            hashed = make(
                analyzer=analyzer,
                ngram_range=(span[0], span[1]),
                token_pattern=r"(?u)\b\w+\b" if analyzer == "word" else None,
                n_features=1 << config.bits,
                alternate_sign=False,
                norm=None,
            )
            parts.append(hashed.transform(texts))
    return csr_matrix(hstack(parts, format="csr"))


def fit_features(counted: Matrix, config: FeatureConfig, *, seed: int = 0) -> Features:
    """From the rows of training samples."""
    if config.kind == "columns":
        if not config.scaled:
            return Features(config)
        with np.errstate(all="ignore"):
            known = ~np.isnan(counted)
            total = np.maximum(known.sum(0), 1)
            mean = np.where(known, counted, 0).sum(0) / total
            deviation = np.sqrt(np.where(known, (counted - mean) ** 2, 0).sum(0) / total)
        return Features(config, {"mean": mean, "deviation": np.where(deviation > 0, deviation, 1.0)})
    documents = np.bincount(counted.indices, minlength=counted.shape[1])
    kept = np.flatnonzero(documents >= config.least_texts)
    arrays: dict[str, NDArray[Any]] = {"kept": kept.astype(np.int64)}
    if not len(kept):
        raise ConfigError(f"no n-gram stands in {config.least_texts} of the texts", hint="more training samples")
    if config.weighted:
        arrays["idf"] = (np.log((1 + counted.shape[0]) / (1 + documents[kept])) + 1).astype(np.float32)
    if config.kind == "reduced":
        from sklearn.decomposition import TruncatedSVD

        weighed = _weighed(counted, config, arrays)
        most = min(config.directions, weighed.shape[0] - 1, weighed.shape[1] - 1)
        if most < 1:
            raise ConfigError("one text has no directions", hint="more training samples")
        found = TruncatedSVD(most, random_state=seed).fit(weighed)
        arrays["directions"] = np.asarray(found.components_, dtype=np.float32)
    return Features(config, arrays)


def _weighed(counted: Matrix, config: FeatureConfig, arrays: Mapping[str, NDArray[Any]]) -> Matrix:
    """The columns that were kept; log(1 + count) * idf, each kind of n-gram of length 1, where that is asked for."""
    from scipy.sparse import csr_matrix, hstack

    kept = arrays["kept"]
    found = csr_matrix(counted[:, kept])
    if not config.weighted:
        return found
    data = np.log1p(found.data) * arrays["idf"].astype(np.float64)[found.indices]
    found = csr_matrix((data, found.indices, found.indptr), shape=found.shape)
    edges = [0, *np.searchsorted(kept, np.arange(1, 3) << config.bits)]
    blocks = [found[:, start:end] for start, end in itertools.pairwise(edges) if end > start]
    return hstack([_of_length_one(block) for block in blocks], format="csr")


def _of_length_one(rows: Matrix) -> Matrix:
    from scipy.sparse import diags

    lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(1))[:, 0])
    return diags(1 / np.where(lengths > 0, lengths, 1.0)) @ rows


def _number(sample: Sample, name: str) -> float:
    value = sample.metadata.get(name)
    if value is None or value == "":
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DataError(
            f"sample {sample.id!r:.60}: {name} is {value!r:.40}, not a number", hint="columns are numbers"
        ) from None
