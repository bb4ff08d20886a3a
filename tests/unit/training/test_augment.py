"""Augmentation: shapes kept, equal generators equal pictures, nothing changed at strength nothing."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import ConfigError
from bloomery.training.augment import Augment, AugmentConfig

PICTURE = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
EACH = [{"least_area": 0.3}, {"shift": 3}, {"mirror": True}, {"light": 0.5}]


def _changed(seed: int, **options) -> np.ndarray:
    return Augment(AugmentConfig(**options))(PICTURE, np.random.default_rng(seed))


@pytest.mark.parametrize("options", [*EACH, {k: v for one in EACH for k, v in one.items()}])
def test_shape_range_and_determinism(options):
    if "least_area" in options:
        pytest.importorskip("PIL")
    found = [_changed(seed, **options) for seed in range(6)]
    assert all(one.shape == PICTURE.shape and one.dtype == np.uint8 for one in found)
    assert any(not np.array_equal(one, PICTURE) for one in found)
    assert all(np.array_equal(one, _changed(seed, **options)) for seed, one in enumerate(found))
    assert AugmentConfig(**options).changes


def test_nothing_by_default():
    assert not AugmentConfig().changes and np.array_equal(_changed(0), PICTURE)


def test_mirror_and_shift_by_hand():
    mirrored = {_changed(seed, mirror=True).tobytes() for seed in range(20)}
    assert mirrored == {PICTURE.tobytes(), PICTURE[:, ::-1].tobytes()}
    for seed in range(20):
        found = _changed(seed, shift=2)
        down, right = np.random.default_rng(seed).integers(-2, 3, 2)
        padded = np.pad(PICTURE, ((2, 2), (2, 2), (0, 0)), mode="edge")
        assert np.array_equal(found, padded[2 - down : 14 - down, 2 - right : 18 - right])


def test_light_scales_brightness_and_contrast():
    flat = np.full((4, 4, 3), 100, dtype=np.uint8)
    for seed in range(10):
        bright = np.random.default_rng(seed).uniform(0.5, 1.5, 2)[0]
        found = Augment(AugmentConfig(light=0.5))(flat, np.random.default_rng(seed))
        assert np.unique(found).tolist() == [int(100 * bright + 0.5)]


def test_crops_cover_the_share_that_is_asked():
    pytest.importorskip("PIL")
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], (64, 1, 3))
    for seed in range(30):
        found = Augment(AugmentConfig(least_area=0.25))(ramp, np.random.default_rng(seed))
        # A crop of a quarter of the area or more is at least .43 of the width (sides differ by 4 / 3 at most).
        assert int(found[0, -1, 0]) - int(found[0, 0, 0]) > 0.4 * 255 - 8


@pytest.mark.parametrize("options", [{"least_area": 0}, {"least_area": 1.1}, {"shift": -1}, {"light": 1}])
def test_settings_are_checked(options):
    with pytest.raises(ConfigError):
        AugmentConfig(**options)
