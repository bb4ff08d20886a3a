"""Picture files: what may come from anybody becomes an upright RGB image, or a DataError of one line.

Few formats, bounded bytes and pixels; what is transparent is laid on white. Pillow is loaded when a picture is opened.
This module does not know captions, folders, or what a model reads.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bloomery.core.errors import BloomeryError, DataError, MissingExtraError

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = Image | np.ndarray | bytes | str | Path
else:
    Picture = Any

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
MAX_IMAGE_BYTES = 64 * 1024 * 1024
MAX_IMAGE_PIXELS = 64 * 1024 * 1024


def open_image(source: Picture, *, max_pixels: int = MAX_IMAGE_PIXELS) -> Image:
    """An RGB image, upright as its EXIF says if it comes from a file. DataError, in one line, for what is no image of
    the `FORMATS`, is damaged or too large; of several frames the first is read."""
    imaging = pillow()
    try:
        if isinstance(source, (bytes, str, Path)):
            return _decoded(source if isinstance(source, bytes) else _read(source), max_pixels)
        if isinstance(source, np.ndarray):
            if source.dtype != np.uint8 or source.shape[2:] not in ((), (3,)) or source.ndim < 2 or not source.size:
                raise DataError(f"an array of {source.dtype} and shape {source.shape} is no image")
            return imaging.fromarray(source).convert("RGB")
        if not isinstance(source, imaging.Image):
            raise DataError(
                f"{type(source).__name__} is no image", hint="give a path, bytes, a uint8 array or Pillow's"
            )
        return _opaque(source)
    except BloomeryError:
        raise
    except Exception as error:  # whatever a decoder raises, it means that this cannot be read
        name = f"{source}: " if isinstance(source, (str, Path)) else ""
        unknown = isinstance(error, imaging.UnidentifiedImageError)  # whose own words are an object's address
        reason = "it is none, or of another format" if unknown else " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{name}the image cannot be read: {reason:.200}", hint="supported: " + ", ".join(FORMATS)
        ) from error


def _read(path: str | Path) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(MAX_IMAGE_BYTES + 1)


def _decoded(data: bytes, max_pixels: int) -> Image:
    from PIL import ImageOps

    if len(data) > MAX_IMAGE_BYTES:
        raise DataError(f"an image of more than {MAX_IMAGE_BYTES:,} bytes is too large")
    with pillow().open(io.BytesIO(data), formats=FORMATS) as image:
        _check_pixels(image, max_pixels)
        image.load()
        return _opaque(ImageOps.exif_transpose(image))


def _opaque(image: Image) -> Image:
    _check_pixels(image)
    if "A" not in image.getbands() and image.info.get("transparency") is None:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = pillow().new("RGBA", image.size, (255, 255, 255, 255))
    return pillow().alpha_composite(white, image).convert("RGB")


def _check_pixels(image: Image, most: int = MAX_IMAGE_PIXELS) -> None:
    width, height = image.size
    if not 0 < width * height <= most:
        raise DataError(f"an image of {width} x {height} pixels is empty or too large")


def square(image: Image, size: int) -> np.ndarray:
    """uint8 (size, size, 3): the shorter edge scaled to `size` (bicubic), the middle of the longer one kept."""
    width, height = image.size
    scale = size / min(width, height)
    # Rounded down, as image processors do it.
    wide, high = max(size, int(width * scale)), max(size, int(height * scale))
    if (wide, high) != image.size:
        image = image.resize((wide, high), pillow().Resampling.BICUBIC)
    left, top = (wide - size) // 2, (high - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def pillow() -> Any:
    """PIL.Image; MissingExtraError where Pillow is not installed."""
    try:
        import PIL.Image
    except ImportError:
        raise MissingExtraError("pillow", "vision", "reading images") from None
    return PIL.Image
