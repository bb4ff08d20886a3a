"""Energy distance of mean embeddings: SciPy's statistic, exact chance by simulation, real changes found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bloomery.engine import LanguageModel
from bloomery.server.drift import DriftWatch, compare
from bloomery.server.embedding_drift import MAX_DIMENSIONS, _projection, energy_test, mean_embedding
from bloomery.server.record import Record


@pytest.mark.parametrize("seed", range(5))
def test_in_one_dimension_it_is_scipys(seed: int):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(40, 1)), rng.normal(0.5, 2, size=(70, 1))
    between = np.abs(x - y.T).mean()
    ours = energy_test(list(x), list(y))[0] * 2 * between
    assert ours == pytest.approx(stats.energy_distance(x[:, 0], y[:, 0]) ** 2, rel=1e-9)


def test_no_more_false_alarms_than_stated():
    """Of one distribution, far from normal: p is uniform, so an alert at p < 0.001 is at most one in a thousand."""
    rng = np.random.default_rng(0)

    def window() -> np.ndarray:
        return rng.exponential(size=(40, 6)) * rng.choice([1.0, 5.0], size=(40, 1))

    chances = [energy_test(list(window()), list(window()), seed=n)[1] for n in range(150)]
    assert stats.kstest(chances, "uniform").pvalue > 0.001
    assert sum(p < 0.001 for p in chances) <= 1  # 0.15 expected: two or more once in ninety seeds
    assert sum(p < 0.05 for p in chances) <= stats.binom.ppf(0.9999, 150, 0.05)


def test_changes_of_place_spread_and_shape_are_found():
    rng = np.random.default_rng(1)
    reference = rng.normal(size=(120, 8))
    changed = {
        "place": rng.normal(1.0, size=(120, 8)),
        "spread": rng.normal(size=(120, 8)) * 3,
        "two": rng.normal(size=(120, 8)) + rng.choice([-2.0, 2.0], size=(120, 1)),
    }
    for newest in changed.values():
        assert compare("prompt_embedding", list(reference), list(newest)).alert
    # Beyond chance and yet small: no alert.
    slight = compare("prompt_embedding", list(rng.normal(size=(200, 8))), list(rng.normal(0.15, size=(200, 8))))
    assert not slight.alert


def test_equal_vectors_are_no_change():
    same = [np.ones(3)] * 30
    assert energy_test(same, same) == (0.0, 1.0)
    assert energy_test(same, [np.zeros(3)] * 30) == (1.0, pytest.approx(1 / 2000))


def test_a_projection_keeps_distances():
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(30, 768))
    short = vectors @ _projection(768)
    ratio = stats.norm.interval(0.9999)[1] / np.sqrt(2 * MAX_DIMENSIONS)  # of a chi-square's root, about
    pairs = [(i, j) for i in range(30) for j in range(i)]
    found = [np.linalg.norm(short[i] - short[j]) / np.linalg.norm(vectors[i] - vectors[j]) for i, j in pairs]
    assert 1 - 1.5 * ratio < min(found) and max(found) < 1 + 1.5 * ratio


def test_mean_embeddings_are_the_models_own(tiny: LanguageModel):
    ids = tiny.tokenizer.encode("Once upon a time")
    table = tiny.decoder.model.embed_tokens.weight.detach().float().numpy()
    assert np.allclose(mean_embedding(tiny, ids), table[ids].mean(0), atol=1e-6)
    assert mean_embedding(tiny, []) is None and mean_embedding(tiny, [10**6]) is None


def test_the_watch_tells_other_topics_apart(tiny: LanguageModel):
    """Prompts of equal length in the same script, about something else."""
    rng = np.random.default_rng(3)
    words = {"iron": list(range(20, 60)), "law": list(range(200, 240))}

    def record(topic: str) -> Record:
        return Record(
            id="x", route="/", model="m", tenant="t", status=200, time=0.0, seconds=1.0,
            prompt_ids=[rng.choice(words[topic], 12).tolist()], answers=[answer], decode=lambda ids, special: "x",
            embed=lambda ids: mean_embedding(tiny, ids),
        )  # fmt: skip

    answer = tiny.generate("Once", max_new_tokens=3, seed=0)
    watch = DriftWatch(40)
    for _ in range(80):
        watch.add(record("iron"))
    assert not any(drift.alert for _, _, drift in watch.now())
    for _ in range(40):
        watch.add(record("law"))
    assert [kind for _, kind, drift in watch.now() if drift.alert] == ["prompt_embedding"]
