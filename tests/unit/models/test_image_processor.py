"""Images from anybody, and what is asked of them; that the numbers are the reference's is in tests/golden."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from bloomery.core.errors import ConfigError, DataError, MissingExtraError
from bloomery.corpus.picture_file import MAX_IMAGE_PIXELS, open_image
from bloomery.models.image_processor import ImageProcessor

PHOTO = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))


def _file(kind: str, image: PIL.Image.Image = PHOTO, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_formats_that_are_read(kind: str, tmp_path: Path):
    data = _file(kind)
    (tmp_path / "image").write_bytes(data)
    for source in (data, tmp_path / "image", str(tmp_path / "image")):
        assert open_image(source).size == (30, 20) and open_image(source).mode == "RGB"


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PPM", "ICO", "TGA"])
def test_formats_that_are_not(kind: str):
    with pytest.raises(DataError, match="cannot be read") as error:
        open_image(_file(kind))
    assert "PNG" in error.value.hint and "\n" not in error.value.one_line()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_every_truncation_is_one_line_or_an_image(kind: str):
    data = _file(kind)
    refused = 0
    for end in range(0, len(data), max(1, len(data) // 60)):
        try:
            assert open_image(data[:end]).size == (30, 20)
        except DataError as error:
            refused += 1
            assert "\n" not in error.one_line()
    assert refused > 10


def test_bytes_at_random_are_refused_in_one_line():
    generator = np.random.default_rng(1)
    whole = {kind: _file(kind) for kind in ("PNG", "JPEG", "WEBP", "GIF")}
    for kind in whole:
        for _ in range(60):
            data = bytearray(whole[kind])
            for place in generator.integers(0, len(data), 8):
                data[place] = generator.integers(0, 256)
            try:
                open_image(bytes(data))
            except DataError as error:
                assert "\n" not in error.one_line()


def _png(width: int, height: int, rows: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("edges", [(9_000, 9_000), (20_000, 20_000), (1 << 30, 1), (0, 5)])
def test_a_bomb_is_never_unpacked(edges: tuple[int, int]):
    with pytest.raises(DataError):
        open_image(_png(*edges, b"\x00" * 1000))


def test_a_line_that_would_grow_into_a_wall():
    """One pixel high and a million wide: with the shorter edge at 224 it would be 50 gigapixels."""
    with pytest.raises(DataError, match="too long"):
        ImageProcessor(size={"shortest_edge": 224})(PIL.Image.new("RGB", (1_000_000, 1)))


def test_of_several_frames_the_first():
    frames = [PIL.Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP"):
        data = _file(kind, frames[0], save_all=True, append_images=frames[1:])
        red, _, blue = (int(value) for value in np.asarray(open_image(data))[4, 4])
        assert red > 200 and blue < 60


def test_what_is_transparent_is_white():
    image = PIL.Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    assert np.asarray(open_image(image)).min() == 255
    assert np.asarray(open_image(_file("PNG", image))).min() == 255


def test_arrays():
    array = np.asarray(PHOTO)
    processor = ImageProcessor(size={"height": 8, "width": 8})
    assert (processor(array) == processor(PHOTO)).all()
    assert processor([array, array[..., 0], PHOTO]).shape == (3, 3, 8, 8)
    for odd in (array[..., :2], array.astype(np.float32), array[:0], array[0, 0], array[None]):
        with pytest.raises(DataError, match="no image"):
            processor(odd)


def test_what_is_no_image(tmp_path: Path):
    for source in (b"", b"text", tmp_path / "none.png", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            open_image(source)
    for source in (3, None, [PHOTO]):
        with pytest.raises(DataError, match="is no image"):
            open_image(source)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="too large"):
        open_image(PIL.Image.new("L", (MAX_IMAGE_PIXELS // 1000 + 1, 1000)))
    with pytest.raises(DataError, match="no images"):
        ImageProcessor()([])
    with pytest.raises(DataError, match="several sizes"):
        ImageProcessor(size={"shortest_edge": 8})([PHOTO, PHOTO.resize((20, 20))])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"image_processor_type": "PixtralImageProcessor"}, "PixtralImageProcessor"),
        ({}, "ImageProcessor"),
        ({"image_processor_type": "CLIPImageProcessor", "patch_size": 4}, "patch_size"),
        ({"image_processor_type": "LlavaImageProcessor", "do_pad": True}, "do_pad"),
        ({"image_processor_type": "ViTImageProcessor", "size": {"height": 4}}, "size"),
        ({"image_processor_type": "ViTImageProcessor", "size": {"height": 4, "width": 0}}, "width"),
        ({"image_processor_type": "ViTImageProcessor", "size": {"height": 4, "width": 1 << 20}}, "width"),
        ({"image_processor_type": "CLIPImageProcessor", "crop_size": {"shortest_edge": 3}}, "crop_size"),
        ({"image_processor_type": "ViTImageProcessor", "resample": 9}, "resample"),
        ({"image_processor_type": "ViTImageProcessor", "image_mean": [0.1]}, "image_mean"),
        ({"image_processor_type": "ViTImageProcessor", "image_std": [0.1, 0.0, 1.0]}, "image_std"),
        ({"image_processor_type": "ViTImageProcessor", "do_resize": "yes"}, "do_resize"),
    ],
)
def test_settings_that_are_refused(values: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        ImageProcessor.from_hf(values)


def test_written_and_read_again(tmp_path: Path):
    processor = ImageProcessor(size={"shortest_edge": 9}, do_center_crop=True, crop_size={"height": 9, "width": 9})
    processor.to_folder(tmp_path / "new")
    assert ImageProcessor.from_folder(tmp_path / "new") == processor
    with pytest.raises(DataError, match=r"preprocessor_config.json"):
        ImageProcessor.from_folder(tmp_path)


def test_without_pillow_the_hint_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError) as error:
        open_image(b"")
    assert "bloomery[vision]" in error.value.hint
