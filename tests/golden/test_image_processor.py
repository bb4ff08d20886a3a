"""Images to numbers as transformers' Pillow-backed processors make them, on real images."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from bloomery.corpus.picture_file import open_image
from bloomery.models.image_processor import ImageProcessor

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "CLIPImageProcessor": [
        {},
        {"size": {"shortest_edge": 40}, "crop_size": {"height": 33, "width": 40}},
        {"do_resize": False, "crop_size": {"height": 71, "width": 21}},
        {"size": {"height": 20, "width": 31}, "crop_size": {"height": 24, "width": 24}, "resample": 1},
        {"size": {"shortest_edge": 40, "longest_edge": 48}, "crop_size": {"height": 48, "width": 48}},
        {"image_mean": [0.1, 0.2, 0.3], "rescale_factor": 0.01},
    ],
    "ViTImageProcessor": [
        {},
        {"size": {"height": 48, "width": 16}},
        {"do_normalize": False, "resample": 0},
        {"size": {"height": 16, "width": 16}, "resample": 4},
        {"size": {"height": 16, "width": 16}, "resample": 5},
        {"do_rescale": False},
    ],
    "SiglipImageProcessor": [{}, {"size": {"height": 97, "width": 31}}, {"do_normalize": False}],
    "LlavaImageProcessor": [{}, {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}],
}
CASES = [(name, number) for name, several in SETTINGS.items() for number in range(len(several))]


@pytest.fixture(scope="module")
def images(shared_data: Path) -> list[PIL.Image.Image]:
    """Emoji with transparency, photographs of CIFAR, one of them long, and the modes that files come in."""
    found: list[PIL.Image.Image] = []
    for archive, suffix in (("emojione_png64", ".png"), ("cifar10_train_jpg", ".jpg")):
        with tarfile.open(shared_data / "image_text" / f"{archive}.tar.xz") as tar:
            for member in tar:
                if member.name.endswith(suffix):
                    data = tar.extractfile(member)
                    assert data is not None
                    found.append(PIL.Image.open(io.BytesIO(data.read())))
                    if len(found) % 3 == 0:
                        break
    emoji, photo = found[0], found[5]
    found += [photo.resize((97, 41)), photo.resize((45, 64)), photo.convert("L"), emoji.convert("LA")]
    found += [emoji.convert("P"), photo.convert("CMYK"), photo.convert("1")]
    return found


@pytest.mark.parametrize(("name", "number"), CASES)
def test_the_same_numbers(name: str, number: int, images: list[PIL.Image.Image], tmp_path: Path):
    import transformers

    theirs = getattr(transformers, f"{name}Pil")(**SETTINGS[name][number])
    theirs.save_pretrained(tmp_path / "theirs")
    ours = ImageProcessor.from_folder(tmp_path / "theirs")
    assert ours.image_processor_type == name
    ours.to_folder(tmp_path / "ours")
    back = type(theirs).from_pretrained(tmp_path / "ours")
    for image in images:
        if name == "ViTImageProcessor" and image.mode != "RGB":
            continue  # it takes the channels as they are: only three have three means
        got = ours(image)
        assert got.dtype == torch.float32
        for one in (theirs, back):
            expected = np.stack(one([image])["pixel_values"])
            assert got.shape == expected.shape
            assert np.abs(got.numpy() - expected).max() < 1e-5 * max(1.0, float(np.abs(expected).max()))


@pytest.mark.parametrize(
    ("values", "model_type"),
    [
        ({"crop_size": 30, "size": 40, "resample": 3, "feature_extractor_type": "CLIPFeatureExtractor"}, "clip"),
        ({"crop_size": 30, "size": 40, "image_processor_type": "CLIPImageProcessorFast"}, "llava"),
        ({"size": 40, "feature_extractor_type": "ViTFeatureExtractor"}, "vit"),
        ({"size": {"height": 40, "width": 40}}, "siglip"),
        ({}, "llava"),
        ({}, "vit"),
    ],
)
def test_older_files(values: dict[str, Any], model_type: str, images: list[PIL.Image.Image]):
    """openai/clip-vit-base-patch32 gives its sizes as plain numbers, and names a class that is no more."""
    import transformers

    ours = ImageProcessor.from_hf(values, model_type=model_type)
    cls = getattr(transformers, f"{ours.image_processor_type}Pil")
    expected = cls.from_dict(values)([images[7]])["pixel_values"]
    assert np.abs(ours([images[7]]).numpy() - np.stack(expected)).max() < 1e-5


def test_processors_of_transformers_5_within_another_file(images: list[PIL.Image.Image], tmp_path: Path):
    import transformers

    theirs = transformers.CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    (tmp_path / "processor_config.json").write_text(
        '{"processor_class": "LlavaProcessor", "image_processor": ' + theirs.to_json_string() + "}"
    )
    got = ImageProcessor.from_folder(tmp_path)(images[3])
    assert np.abs(got.numpy() - np.stack(theirs([images[3]])["pixel_values"])).max() < 1e-5


def test_a_turned_photograph_stands_upright(images: list[PIL.Image.Image], tmp_path: Path):
    from transformers.image_utils import load_image

    photo = images[7]
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    photo.save(tmp_path / "turned.jpg", exif=exif)
    ours, theirs = open_image(tmp_path / "turned.jpg"), load_image(str(tmp_path / "turned.jpg"))
    assert ours.size == theirs.size == (photo.size[1], photo.size[0])
    assert np.array_equal(np.asarray(ours), np.asarray(theirs))
