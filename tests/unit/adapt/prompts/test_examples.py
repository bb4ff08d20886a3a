"""Which examples are shown: near ones, unlike ones, balanced ones; never the question itself."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bloomery.adapt.prompts.examples import (
    DiverseExamples,
    NearestExamples,
    Similarity,
    balanced,
    chooser,
    k_centres,
    mmr,
    sample_shot,
    shot_sample,
)
from bloomery.adapt.prompts.template import ExampleSettings, PromptTemplate, Shot
from bloomery.core.errors import ConfigError
from bloomery.evaluate.sample import Sample

TEXTS = ["the cat sat", "the cat sat down", "stocks fell today", "stocks rose", "a dog barked"]
POOL = [Sample(id=str(n), input=text, targets=("x",)) for n, text in enumerate(TEXTS)]


def test_cosines_are_those_of_scikit_learn():
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics.pairwise import cosine_similarity

    vectors = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", ngram_range=(1, 2), sublinear_tf=True).fit_transform(TEXTS)
    similarity = Similarity(TEXTS)
    np.testing.assert_allclose(similarity.to(TEXTS[1]), cosine_similarity(vectors, vectors[1])[:, 0], atol=1e-12)
    np.testing.assert_allclose(similarity.between([0, 2]), cosine_similarity(vectors, vectors[[0, 2]]), atol=1e-12)


def test_the_nearest_comes_last_and_the_question_is_left_out():
    found = NearestExamples(POOL, 2, Similarity(TEXTS)).choose(Sample(id="q", input="the cat sat"))
    assert [one.id for one in found][-1] == "1" and "0" not in [one.id for one in found]


def test_mmr_takes_unlike_ones_as_the_balance_falls():
    relevance = np.array([1.0, 0.95, 0.5])
    alike = np.array([[1.0, 0.99, 0.1], [0.99, 1.0, 0.1], [0.1, 0.1, 1.0]])
    assert mmr(relevance, alike, 2, 1.0) == [0, 1]
    assert mmr(relevance, alike, 2, 0.5) == [0, 2]
    assert mmr(relevance, alike, 9, 0.5) == [0, 2, 1]


def test_diverse_ones_are_not_all_of_a_kind():
    found = DiverseExamples(POOL, 2, Similarity(TEXTS), balance=0.3).choose(Sample(id="q", input="cat sat there"))
    assert not {"0", "1"} <= {one.id for one in found}


def test_k_centres_are_within_twice_the_best_radius():
    """Gonzalez' bound, against every choice there is, with Euclidean distances of unit vectors."""
    from itertools import combinations

    rng = np.random.default_rng(0)
    points = rng.normal(size=(14, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    similarity = Similarity([str(n) for n in range(14)], lambda texts: points[[int(t) for t in texts]])
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    best = min(distance[:, list(some)].min(1).max() for some in combinations(range(14), 3))
    chosen = k_centres(similarity, 14, 3, first=5)
    assert len(set(chosen)) == 3 and distance[:, chosen].min(1).max() <= 2 * best


def test_a_balanced_draw_has_as_many_of_each_answer():
    choices = ("a", "b", "c")
    pool = [Sample(id=str(n), input=str(n), choices=choices, targets=("a" if n % 10 else "b",)) for n in range(100)]
    counts = Counter(one.targets[0] for one in balanced(pool, 8, seed=3))
    assert counts == {"a": 4, "b": 4}
    assert balanced(pool, 8, seed=3) == balanced(pool, 8, seed=3) != balanced(pool, 8, seed=4)
    assert len(balanced(pool[:5], 50, seed=0)) == 5


def test_settings_make_choosers():
    def made(**settings):
        template = PromptTemplate(name="t", examples=ExampleSettings(**settings))
        return chooser(template, POOL).choose(Sample(id="q", input="cat stocks"))

    assert made() == ()
    for how in ("fixed", "nearest", "diverse", "spread"):
        assert len(made(count=3, how=how)) == 3
    vectors = {text: np.eye(6)[place] for place, text in enumerate([*TEXTS, "q"])}
    template = PromptTemplate(name="t", examples=ExampleSettings(count=1, how="nearest", similarity="embeddings"))
    embed = lambda texts: np.stack([vectors.get(t, vectors["a dog barked"]) for t in texts])  # noqa: E731
    assert chooser(template, POOL, embed).choose(Sample(id="q", input="whatever"))[0].id == "4"
    with pytest.raises(ConfigError, match="encoder"):
        chooser(template, POOL)
    with pytest.raises(ConfigError, match="none to choose from"):
        chooser(template, [Sample(id="1", input="no target")])


def test_shots_of_the_prompt_go_before_samples():
    shot = Shot(input="i", answer="b", thinking="so", choices=("a", "b"))
    template = PromptTemplate(name="t", shots=(shot,), examples=ExampleSettings(count=3))
    (found,) = chooser(template, POOL).choose(POOL[0])
    assert found.metadata["thinking"] == "so" and sample_shot(shot_sample(0, shot)) == shot
