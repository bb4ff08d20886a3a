"""Picture files from anybody: what is read, and what is refused in one line."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest

from bloomery.core.errors import DataError
from bloomery.corpus.picture_file import open_image, square

PIL = pytest.importorskip("PIL.Image")


def png(width: int = 6, height: int = 4, kind: str = "PNG", mode: str = "RGB", seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    channels = {"RGB": 3, "RGBA": 4}[mode]
    array = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    file = io.BytesIO()
    PIL.fromarray(array, mode).save(file, kind)
    return file.getvalue()


def test_formats_and_transparency():
    for kind in ("PNG", "JPEG", "WEBP", "GIF"):
        assert open_image(png(kind=kind)).size == (6, 4)
    clear = PIL.new("RGBA", (2, 2), (10, 20, 30, 0))
    assert open_image(clear).getpixel((0, 0)) == (255, 255, 255)


def test_too_many_pixels_are_refused_before_decoding():
    with pytest.raises(DataError, match="too large"):
        open_image(png(40, 40), max_pixels=1000)


@pytest.mark.parametrize("data", [b"", b"no picture", png()[:40], b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_damage_is_one_line(data):
    with pytest.raises(DataError) as caught:
        open_image(data)
    assert "\n" not in caught.value.message


def test_what_is_no_image_is_said_without_an_address(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    for source, said in ((b"no picture", "the image"), (tmp_path / "a.png", f"{tmp_path / 'a.png'}: the image")):
        with pytest.raises(DataError) as caught:
            open_image(source)
        assert caught.value.message == f"{said} cannot be read: it is none, or of another format"
        assert caught.value.hint == "supported: PNG, JPEG, WEBP, GIF"


def test_no_mutation_gets_through_as_another_error():
    rng, whole = random.Random(0), png(16, 16)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            assert open_image(bytes(data)).mode == "RGB"
        except DataError as error:
            assert "\n" not in error.message


def test_square_keeps_the_middle_as_pillow_scales():
    image = open_image(png(12, 8))
    found = square(image, 4)
    scaled = image.resize((6, 4), PIL.Resampling.BICUBIC)
    assert found.shape == (4, 4, 3) and np.array_equal(found, np.asarray(scaled)[:, 1:5])
    assert np.array_equal(square(image.crop((0, 0, 8, 8)), 8), np.asarray(image)[:, :8])
