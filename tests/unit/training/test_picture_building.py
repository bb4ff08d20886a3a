"""Models that see pictures: built, started again, and what they need of a tokenizer."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from bloomery.core.errors import ConfigError
from bloomery.models.classifiers import ConvImageClassifier
from bloomery.models.clip import Clip, save_clip
from bloomery.models.vision import VisionEncoder, save_vision
from bloomery.models.vision_language import VisionLanguage
from bloomery.tokenizer import Tokenizer, TokenizerConfig
from bloomery.tokenizer.train import learn, write_tokenizer
from bloomery.training.building import NetConfig
from bloomery.training.picture_building import PICTURE_FAMILIES, build_seeing, image_size, processor, rebuild_seeing

NET = {"hidden_size": 32, "num_hidden_layers": 1, "image_size": 16, "patch_size": 8}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    config = TokenizerConfig(vocab_size=400, encloses=True, images=True)
    write_tokenizer(learn(["a red square", "a blue circle"] * 9, config), folder)
    return Tokenizer.load(folder)


@pytest.mark.parametrize(("objective", "family"), [(o, f) for o, known in PICTURE_FAMILIES.items() for f in known])
def test_every_family(tokenizer, objective, family):
    net = NetConfig(family=family, **NET)  # type: ignore[arg-type]
    model = build_seeing(objective, net, tokenizer, context_length=16, num_labels=3)
    pixels, ids = torch.zeros(2, 3, 16, 16), torch.tensor([tokenizer.encode_with_special("a red square")[0]])
    kinds = {"clip": Clip, "siglip": Clip, "llava": VisionLanguage, "vit": VisionEncoder, "conv": ConvImageClassifier}
    assert isinstance(model, kinds[family]) and image_size(model, net) == 16
    with torch.no_grad():
        if isinstance(model, Clip):
            assert model(pixels, ids).shape == (2, 1)
        elif not isinstance(model, VisionLanguage):
            assert model(pixels).shape == (2, 3)


@pytest.mark.parametrize("width", [32, 64, 256])
def test_a_contrastive_model_begins_at_the_logarithm_of_the_batch(tokenizer, width):
    """At its own scale, pictures and texts as different as can be: nothing is known, and nothing is claimed."""
    found, rows = [], 64
    for seed in range(4):
        torch.manual_seed(seed)
        net = NetConfig(**{**NET, "hidden_size": width})  # type: ignore[arg-type]
        model = build_seeing("contrastive", net, tokenizer, context_length=16)
        ids = torch.randint(0, 256, (rows, 9))
        ids[:, -1] = tokenizer.eos_ids[0]
        with torch.no_grad():
            logits = model(torch.randn(rows, 3, 16, 16) + torch.randn(rows, 3, 1, 1), ids)
        right = torch.arange(rows)
        both = (F.cross_entropy(logits, right) + F.cross_entropy(logits.t(), right)) / 2
        found.append(float(both))
    assert sum(found) / 4 == pytest.approx(math.log(rows), rel=0.02)


def test_texts_are_enclosed_as_contrastive_models_read_them(tokenizer):
    ids, _ = tokenizer.encode_with_special("a red square")
    assert ids[0] == tokenizer.bos_id and ids[-1] == tokenizer.eos_ids[0] and tokenizer.bos_id != tokenizer.eos_ids[0]
    assert tokenizer.image_id is not None and tokenizer.image_id in tokenizer.special_ids


def test_models_that_are_there(tokenizer, tmp_path):
    clip = build_seeing("contrastive", NetConfig(**NET), tokenizer, context_length=16)  # type: ignore[arg-type]
    assert isinstance(clip, Clip)
    save_clip(clip, tmp_path / "clip")
    assert all(p.requires_grad for p in rebuild_seeing("contrastive", tmp_path / "clip").parameters())
    vit = build_seeing("classes", NetConfig(**NET), None, context_length=16, num_labels=5)  # type: ignore[arg-type]
    assert isinstance(vit, VisionEncoder)
    save_vision(vit, tmp_path / "vit")
    same = rebuild_seeing("classes", tmp_path / "vit", num_labels=5)
    other = rebuild_seeing("classes", tmp_path / "vit", num_labels=3)
    pixels = torch.zeros(1, 3, 16, 16)
    assert same(pixels).shape == (1, 5) and other(pixels).shape == (1, 3)
    assert torch.equal(vit.eval().hidden_states(pixels), other.eval().hidden_states(pixels))  # type: ignore[operator]
    with pytest.raises(ConfigError, match="cannot be trained as 'captions'"):
        rebuild_seeing("captions", tmp_path / "clip")


def test_tokens_that_are_missing(tmp_path):
    write_tokenizer(learn(["a"] * 9, TokenizerConfig(vocab_size=300)), tmp_path)
    plain = Tokenizer.load(tmp_path)
    net = NetConfig(**NET)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="end token") as caught:
        build_seeing("contrastive", net, plain, context_length=16)
    assert "encloses" in caught.value.hint
    with pytest.raises(ConfigError, match="stands for a picture"):
        build_seeing("captions", net, plain, context_length=16)
    with pytest.raises(ConfigError, match="multiple of patch_size"):
        build_seeing("classes", NetConfig(image_size=17), None, context_length=16)
    with pytest.raises(ConfigError, match="on pictures"):
        build_seeing("classes", NetConfig(family="gru"), None, context_length=16)


def test_the_processor_makes_what_training_saw():
    pytest.importorskip("PIL")
    import numpy as np
    import PIL.Image

    from bloomery.corpus.picture_file import square
    from bloomery.training.pictures import LabelledPicture, PictureReader

    picture = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 25, 3), dtype=np.uint8))
    read = PictureReader()([LabelledPicture(square(picture, 16), 0)], np.random.default_rng(0), training=False)
    assert np.abs(processor(16)(picture).numpy() - read["pixel_values"]).max() < 1e-6
