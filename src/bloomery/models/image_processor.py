"""ImageProcessor: images to the numbers that an image encoder reads, as preprocessor_config.json says.

Resized, cropped about the centre, scaled and normalised like the Pillow-backed processors of transformers; what is
transparent is laid on white. Images may come from anybody: few formats, bounded bytes and pixels, and what cannot be
decoded is a DataError of one line. This module does not know models, folders of images or augmentation.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bloomery.core.artifact import write_durably
from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import ConfigError, DataError, RequestError
from bloomery.models.weights import as_json, read_json

if TYPE_CHECKING:
    from PIL.Image import Image

    from bloomery.corpus.picture_file import Picture
else:
    Picture = Any

PROCESSOR_FILE = "preprocessor_config.json"
_MAX_EDGE = 1 << 14
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_CLIP: dict[str, Any] = {
    "resample": 3,
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "image_mean": _CLIP_MEAN,
    "image_std": _CLIP_STD,
}
# What absent keys mean for each type; an edge alone is the shorter one, but for ViT, which makes a square.
_TYPES: dict[str, dict[str, Any]] = {
    "CLIPImageProcessor": _CLIP,
    "LlavaImageProcessor": _CLIP,
    "SiglipImageProcessor": {"resample": 3},
    "ViTImageProcessor": {"resample": 2},
}
_BY_MODEL = {"clip": "CLIP", "clip_vision_model": "CLIP", "siglip": "Siglip", "siglip_vision_model": "Siglip"}
_BY_MODEL |= {"vit": "ViT", "llava": "Llava"}
_NO_EFFECT = {"processor_class", "do_convert_rgb", "_valid_processor_keys", "data_format", "input_data_format"}
_NO_EFFECT |= {"return_tensors", "device", "disable_grouping", "auto_map"}
_SIZES = ({"shortest_edge"}, {"shortest_edge", "longest_edge"}, {"height", "width"})


@dataclass(frozen=True, kw_only=True)
class ImageProcessor:
    """How an image becomes numbers; the fields are the keys of preprocessor_config.json. ConfigError for values that
    make no image."""

    image_processor_type: str = "ViTImageProcessor"
    do_resize: bool = True
    size: dict[str, int] = dataclasses.field(default_factory=lambda: {"height": 224, "width": 224})
    """Pixels: "height" and "width", or "shortest_edge" and perhaps "longest_edge", which keep the proportions."""
    resample: int = 3
    """Pillow's filter: 0 nearest, 1 Lanczos, 2 bilinear, 3 bicubic, 4 box, 5 Hamming."""
    do_center_crop: bool = False
    crop_size: dict[str, int] | None = None
    """ "height" and "width" in pixels; a smaller image is laid on black."""
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    image_std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        if self.image_processor_type not in _TYPES:
            raise ConfigError(
                f"image processor {self.image_processor_type!r:.60} is not supported",
                hint="supported: " + ", ".join(_TYPES),
            )
        _check_size("size", self.size, _SIZES)
        if self.do_center_crop:
            _check_size("crop_size", self.crop_size or {}, _SIZES[2:])
        if not 0 <= self.resample <= 5:
            raise ConfigError(f'"resample" should be from 0 to 5, not {self.resample}')
        if len(self.image_mean) != 3 or len(self.image_std) != 3 or not all(self.image_std):
            raise ConfigError('"image_mean" and "image_std" should be three numbers each, "image_std" none of them 0')

    @classmethod
    def from_folder(cls, folder: str | Path) -> ImageProcessor:
        """As a model's folder says. DataError where it says nothing, ConfigError for what is not supported."""
        folder = Path(folder)
        if (folder / PROCESSOR_FILE).is_file():
            values = read_json(folder / PROCESSOR_FILE)
        else:  # transformers 5 keeps it within another file for models that have a tokenizer too
            whole = folder / "processor_config.json"
            values = read_json(whole).get("image_processor") if whole.is_file() else None
            if not isinstance(values, dict):
                raise DataError(f"{folder} has no {PROCESSOR_FILE}", hint="is this the folder of a model of images?")
        config = folder / "config.json"
        model_type = read_json(config).get("model_type") if config.is_file() else None
        return cls.from_hf(values, model_type=model_type)

    @classmethod
    def from_hf(cls, values: Mapping[str, Any], *, model_type: object = None) -> ImageProcessor:
        """From the content of a preprocessor_config.json; `model_type` says what it is of if it does not itself."""
        named = values.get("image_processor_type") or values.get("feature_extractor_type")
        if named is None:
            named = f"{_BY_MODEL.get(str(model_type), '')}ImageProcessor"
        kind = str(named).replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast").removesuffix("Pil")
        given = {key: value for key, value in values.items() if value is not None and key not in _NO_EFFECT}
        for key in ("image_processor_type", "feature_extractor_type"):
            given.pop(key, None)
        if given.pop("do_pad", False):
            raise ConfigError('"do_pad" = True is not supported', hint="supported: False")
        odd = sorted(given.keys() - {field.name for field in dataclasses.fields(cls)})
        if odd:
            raise ConfigError(f"{PROCESSOR_FILE} has keys that are not supported: {', '.join(odd)}")
        merged: dict[str, Any] = {**_TYPES.get(kind, {}), **given, "image_processor_type": kind}
        square = kind == "ViTImageProcessor"
        for key, is_square in (("size", square), ("crop_size", True)):
            edge = merged.get(key)
            if isinstance(edge, int):
                merged[key] = {"height": edge, "width": edge} if is_square else {"shortest_edge": edge}
        for key in ("image_mean", "image_std"):
            if isinstance(merged.get(key), float):
                merged[key] = (merged[key],) * 3
        return from_dict(cls, merged, where=PROCESSOR_FILE)

    def to_folder(self, folder: str | Path) -> None:
        """Write the preprocessor_config.json that transformers reads."""
        document = {key: value for key, value in to_dict(self).items() if value is not None}
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_durably(Path(folder) / PROCESSOR_FILE, as_json({**document, "do_convert_rgb": True}))

    def __call__(self, images: Picture | Sequence[Picture]) -> Tensor:
        """One image or several -> (B, 3, height, width) float32: Pillow's, uint8 arrays (height, width, 3) or (height,
        width), the bytes of a file, or paths. DataError for what is no image, or comes out in several sizes."""
        from bloomery.corpus.picture_file import open_image  # here: what reads no images needs no corpus

        arrays = [self._numbers(open_image(one)) for one in listed(images)]
        if len({array.shape for array in arrays}) != 1:
            raise DataError(
                "the images come out in several sizes" if arrays else "there are no images",
                hint="with do_center_crop, or a size of height and width, they do not",
            )
        return torch.from_numpy(np.stack(arrays))

    def _numbers(self, image: Image) -> np.ndarray:
        from bloomery.corpus.picture_file import MAX_IMAGE_PIXELS

        if self.do_resize:
            width, height = image.size
            rows, columns = _resized(height, width, self.size)
            if rows * columns > MAX_IMAGE_PIXELS:
                raise DataError(f"an image of {width} x {height} is too long for its width to be resized")
            image = image.resize((columns, rows), resample=self.resample)
        pixels = np.asarray(image)
        if self.do_center_crop and self.crop_size is not None:
            pixels = _cropped(pixels, self.crop_size["height"], self.crop_size["width"])
        numbers = pixels.astype(np.float32)
        if self.do_rescale:
            numbers = (pixels.astype(np.float64) * self.rescale_factor).astype(np.float32)
        if self.do_normalize:
            mean, std = (np.asarray(three, dtype=np.float32) for three in (self.image_mean, self.image_std))
            numbers = (numbers - mean) / std
        return np.ascontiguousarray(numbers.transpose(2, 0, 1))


def listed(images: Picture | Sequence[Picture]) -> list[Picture]:
    """One image or several as a list; a text or bytes are one."""
    if isinstance(images, (str, bytes)) or not isinstance(images, Sequence):
        return [images]
    return list(images)


def one_image(image: Picture) -> Picture:
    """The image itself; RequestError for a list of them where one is asked for: none is left out in silence."""
    if isinstance(image, Sequence) and not isinstance(image, (str, bytes)):
        raise RequestError(f"one image at a time, not a list of {len(image)}", hint="ask for each", param="image")
    return image


def _check_size(name: str, size: Mapping[str, int], known: Sequence[set[str]]) -> None:
    if set(size) not in known:
        raise ConfigError(f'"{name}" should have {" or ".join(" and ".join(sorted(keys)) for keys in known)}')
    for key, value in size.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MAX_EDGE:
            raise ConfigError(f'"{name}.{key}" should be from 1 to {_MAX_EDGE:,}, not {value!r:.40}')


def _resized(height: int, width: int, size: Mapping[str, int]) -> tuple[int, int]:
    """Height and width after resizing; edges are cut off, not rounded, as the reference does."""
    if "height" in size:
        return size["height"], size["width"]
    short, long = min(height, width), max(height, width)
    edge = size["shortest_edge"]
    other = int(edge * long / short)
    if "longest_edge" in size and long / short * edge > size["longest_edge"]:
        exact = size["longest_edge"] * short / long
        edge, other = max(1, round(exact)), max(1, int(exact * long / short))
    if "longest_edge" in size and edge == short:
        return height, width
    return (other, edge) if width <= height else (edge, other)


def _cropped(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W, 3) -> (height, width, 3) about the centre, black where there is no image."""
    top, left = math.floor((pixels.shape[0] - height) / 2), math.floor((pixels.shape[1] - width) / 2)
    result = np.zeros((height, width, 3), dtype=pixels.dtype)
    part = pixels[max(0, top) : top + height, max(0, left) : left + width]
    row, column = max(0, -top), max(0, -left)
    result[row : row + part.shape[0], column : column + part.shape[1]] = part
    return result
