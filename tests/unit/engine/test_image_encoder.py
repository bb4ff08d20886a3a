"""ImageEncoder: labels and vectors of images as transformers gives them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import bloomery as bl
from bloomery.core.errors import DataError, RequestError
from bloomery.engine import ImageEncoder
from bloomery.models.image_processor import ImageProcessor

SIZES = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
IMAGES = [np.random.default_rng(n).integers(0, 256, (20, 30, 3), dtype=np.uint8) for n in range(3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ImageProcessor(size={"height": 16, "width": 16}).to_folder(tmp_path)
    torch.manual_seed(0)
    return tmp_path


def test_labels(folder: Path):
    from transformers import ViTConfig, ViTForImageClassification

    labels = {0: "iron", 1: "ore", 2: "slag"}
    theirs = ViTForImageClassification(
        ViTConfig(**SIZES, image_size=16, patch_size=4, id2label=labels, initializer_range=0.3)
    ).eval()
    theirs.save_pretrained(folder)
    ours = bl.load(folder, device="cpu")
    assert isinstance(ours, ImageEncoder)
    with torch.inference_mode():
        expected = theirs(ours.processor(IMAGES[0])).logits[0].log_softmax(-1)
    got = ours.classify(IMAGES[0], top=9)
    assert [candidate.text for candidate in got] == [labels[n] for n in expected.argsort(descending=True).tolist()]
    assert got[0].logprob == pytest.approx(expected.max().item(), abs=1e-5)
    with pytest.raises(RequestError, match="a classifier of images: it has no embed"):
        ours.embed(IMAGES)
    with pytest.raises(RequestError, match="one image at a time, not a list of 2"):
        ours.classify(IMAGES[:2])  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="top"):
        ours.classify(IMAGES[0], top=0)


def test_numbers(folder: Path):
    from transformers import ViTConfig, ViTForImageClassification

    theirs = ViTForImageClassification(ViTConfig(**SIZES, image_size=16, patch_size=4, num_labels=1)).eval()
    theirs.save_pretrained(folder)
    ours = bl.load(folder, device="cpu")
    assert isinstance(ours, ImageEncoder)
    with torch.inference_mode():
        expected = theirs(ours.processor(IMAGES[0])).logits.item()
    assert ours.value(IMAGES[0]) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(RequestError, match=r"gives an image a number: it has no classify") as caught:
        ours.classify(IMAGES[0])
    assert caught.value.hint == "it has value, hidden_states"
    with pytest.raises(RequestError, match="one image at a time"):
        ours.value(IMAGES)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["ViTModel", "CLIPVisionModel", "CLIPVisionModelWithProjection", "SiglipVisionModel"])
def test_vectors(name: str, folder: Path):
    import transformers

    cls = getattr(transformers, name)
    theirs = cls(cls.config_class(**SIZES, image_size=16, patch_size=4)).eval()
    theirs.save_pretrained(folder)
    ours = bl.load(folder, device="cpu")
    assert isinstance(ours, ImageEncoder)
    with torch.inference_mode():
        out = theirs(ours.processor(IMAGES))
    expected = out.image_embeds if "Projection" in name else out.pooler_output
    assert np.abs(ours.embed(IMAGES, batch_size=2) - expected.numpy()).max() < 1e-5
    assert (ours.hidden_states(IMAGES) - out.last_hidden_state).abs().max() < 1e-5
    assert ours.embed([]).shape == (0, expected.shape[1])
    with pytest.raises(RequestError, match="an encoder of images: it has no classify"):
        ours.classify(IMAGES[0])
    with pytest.raises(RequestError, match="batch_size"):
        ours.embed(IMAGES, batch_size=0)
    with pytest.raises(DataError):
        ours.embed(b"")
    ours.close()


def test_a_folder_that_does_not_say_how_images_are_read(folder: Path):
    from transformers import ViTConfig, ViTModel

    ViTModel(ViTConfig(**SIZES, image_size=16, patch_size=4)).save_pretrained(folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(DataError, match=r"preprocessor_config\.json"):
        bl.load(folder, device="cpu")
