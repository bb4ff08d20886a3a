"""ImageTextModel against transformers with the published tokenizer of CLIP and real images; and what is refused."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

import bloomery as bl
from bloomery.core.errors import ConfigError, DataError, RequestError
from bloomery.engine import ImageTextModel, load_language_model
from bloomery.engine.image_text import text_batch
from bloomery.models.clip import Clip
from bloomery.models.clip_config import ClipConfig
from bloomery.models.image_processor import ImageProcessor

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
NAMES = ["airplane", "automobile", "bird"]
TEMPLATES = ["a photo of a {}.", "a blurry photo of the {}, which is small", "{}"]


@pytest.fixture(scope="module")
def folder(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP written by transformers, with the published vocabulary."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    folder = tmp_path_factory.mktemp("clip")
    name = "clip_bpe_simple_vocab_16e6.txt.gz"
    (folder / name.removeprefix("clip_")).write_bytes((shared_data / "tokenizers" / name).read_bytes())
    torch.manual_seed(0)
    vision = {**SIZES, "image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=SIZES, vision_config=vision, projection_dim=24, initializer_factor=3.0)
    CLIPModel(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> ImageTextModel:
    model = bl.load(folder, device="cpu")
    assert isinstance(model, ImageTextModel)
    return model


@pytest.fixture(scope="module")
def photos(shared_data: Path) -> list[PIL.Image.Image]:
    found = []
    with tarfile.open(shared_data / "image_text" / "cifar10_train_jpg.tar.xz") as tar:
        for member in tar:
            if member.name.endswith(".jpg"):
                data = tar.extractfile(member)
                assert data is not None
                found.append(PIL.Image.open(io.BytesIO(data.read())).convert("RGB"))
            if len(found) == 5:
                return found
    raise AssertionError("too few pictures")


def test_probabilities_are_the_references(model: ImageTextModel, folder: Path, photos, tmp_path: Path):
    from transformers import AutoModel, AutoTokenizer, CLIPImageProcessorPil

    model.tokenizer.save(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    theirs = AutoModel.from_pretrained(folder).eval()
    pixels = torch.tensor(np.stack(CLIPImageProcessorPil.from_pretrained(folder)(photos)["pixel_values"]))
    vectors = []
    with torch.inference_mode():
        for name in NAMES:
            texts = tokenizer([t.replace("{}", name) for t in TEMPLATES], padding=True, return_tensors="pt")
            found = theirs.get_text_features(**texts).pooler_output
            vectors.append((found / found.norm(dim=-1, keepdim=True)).mean(0))
        classes = torch.stack([vector / vector.norm() for vector in vectors])
        images = theirs.get_image_features(pixels).pooler_output
        images = images / images.norm(dim=-1, keepdim=True)
        expected = (images @ classes.t() * theirs.logit_scale.exp()).softmax(-1).numpy()
    got = model.zero_shot(photos, NAMES, TEMPLATES, batch_size=2)
    assert got.shape == (5, 3) and got.dtype == np.float32
    assert np.abs(got - expected).max() < 1e-4
    assert np.abs(model.embed_images(photos, batch_size=3) - images.numpy()).max() < 1e-5
    best = model.classify(photos[0], NAMES, TEMPLATES, top=2)
    order = np.argsort(-expected[0])[:2]
    assert [candidate.text for candidate in best] == [NAMES[n] for n in order]
    assert np.exp(best[0].logprob) == pytest.approx(expected[0][order[0]], abs=1e-4)


def test_a_long_text_keeps_its_end(model: ImageTextModel):
    ids, mask = text_batch(model.tokenizer, model.model.config, ["bird " * 500, "bird"])
    assert mask is not None and ids.shape == mask.shape == (2, 77)
    assert ids[0, 0] == 49406 and ids[0, 76] == 49407 and ids[1, 2] == 49407 and mask[1].sum() == 3


def test_batches_and_single_ones_are_alike(model: ImageTextModel, photos):
    texts = ["a bird", "a longer text about a bird", ""]
    together = model.embed_texts(texts)
    assert np.abs(together - np.concatenate([model.embed_texts(text) for text in texts])).max() < 1e-5
    assert np.abs(np.linalg.norm(together, axis=1) - 1).max() < 1e-5
    assert model.embed_images(photos[0]).shape == (1, 24)
    assert model.embed_images([]).shape == model.embed_texts([]).shape == (0, 24)


def test_a_tokenizer_that_ends_nothing_and_siglips_padding(tiny):
    """Tokenizers trained here add no tokens of their own: the end is added for CLIP; SigLIP reads padding."""
    tokenizer = tiny.tokenizer
    text = {**SIZES, "vocab_size": tokenizer.vocab_size + 1, "max_position_embeddings": 16, "pad_token_id": 3}
    text["eos_token_id"] = tokenizer.vocab_size
    values = {"model_type": "clip", "text_config": text, "vision_config": {**SIZES, "image_size": 8, "patch_size": 4}}
    ids, _ = text_batch(tokenizer, ClipConfig.from_hf(values), ["furnace", "the furnace " * 20])
    assert ids.shape == (2, 16) and (ids == tokenizer.vocab_size).sum(1).tolist() == [1, 1]
    config = ClipConfig.from_hf({**values, "model_type": "siglip"})
    ids, mask = text_batch(tokenizer, config, ["ore"])
    assert mask is None and ids.shape == (1, 16)
    assert ids[0, -1] == (3 if tokenizer.pad_id is None else tokenizer.pad_id)
    torch.manual_seed(0)
    siglip = ImageTextModel(Clip(config), tokenizer, ImageProcessor(size={"height": 8, "width": 8}), name="siglip")
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    got = siglip.zero_shot([image], ["ore", "iron"])
    assert got.max() < 0.5  # the bias of an untrained one: few pairs are believed
    with torch.no_grad():
        logits = siglip.model(siglip.processor(image), text_batch(tokenizer, config, ["a photo of a ore."])[0])
    assert got[0, 0] == pytest.approx(logits.sigmoid().item(), abs=1e-5)


def test_what_is_refused(model: ImageTextModel, photos, folder: Path):
    for names, templates in (([], TEMPLATES), ("bird", TEMPLATES), (NAMES, ["a photo"]), (NAMES, []), (NAMES, "{}")):
        with pytest.raises(RequestError):
            model.zero_shot(photos, names, templates)
    with pytest.raises(RequestError):
        model.embed_texts([3])  # type: ignore[list-item]
    with pytest.raises(RequestError):
        model.embed_images(photos, batch_size=0)
    with pytest.raises(RequestError):
        model.classify(photos[0], NAMES, top=0)
    with pytest.raises(RequestError, match="one image at a time"):
        model.classify(photos[:2], NAMES)
    with pytest.raises(DataError):
        model.embed_images(b"no image")
    with pytest.raises(ConfigError, match="writes no text"):
        load_language_model(folder, device="cpu")
