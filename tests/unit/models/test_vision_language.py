"""The vision-language model by itself; that it equals the published one is in tests/golden/test_vision_language.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bloomery.core.errors import RequestError
from bloomery.models.cache import KVCache
from bloomery.models.vision_language import VisionLanguage, load_vision_language, save_vision_language
from bloomery.models.vision_language_config import VisionLanguageConfig

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
IMAGE = 9


def _model() -> VisionLanguage:
    torch.manual_seed(0)
    text = {**SIZES, "model_type": "llama", "vocab_size": 32, "initializer_range": 0.2, "eos_token_id": [2, 3]}
    vision = {**SIZES, "model_type": "clip_vision_model", "image_size": 8, "patch_size": 4}
    values = {"model_type": "llava", "image_token_index": IMAGE, "text_config": text, "vision_config": vision}
    model = VisionLanguage(VisionLanguageConfig.from_hf(values))
    with torch.no_grad():
        for name, parameter in model.language_model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.normal_(0.0, 0.2)
    return model


IDS = torch.tensor([[1, IMAGE, IMAGE, IMAGE, IMAGE, 5, 6]])


def test_the_image_is_read_and_only_after_it():
    model = _model()
    first, second = torch.randn(1, 3, 8, 8), torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        change = (model(IDS, first) - model(IDS, second)).abs().amax(dim=(0, 2))
    assert change[0] == 0 and change[1:].min() > 1e-4


def test_two_images_in_their_order():
    model = _model()
    pixels = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        features = model.image_features(pixels)
        assert features.shape == (2, 4, 16)
        embedded = model.embed(IDS.expand(2, -1), features)
        assert torch.equal(embedded[:, 1:5], features)
        assert torch.equal(embedded[:, 5:], model.language_model.embed(IDS[:, 5:].expand(2, -1)))


def test_one_vector_for_each_image_token():
    model = _model()
    with pytest.raises(RequestError, match="3 image tokens, the images have 4 vectors"):
        model(IDS[:, :4], torch.randn(1, 3, 8, 8))
    with pytest.raises(RequestError, match="shape"):
        model(IDS, torch.randn(1, 3, 9, 9))


def test_with_a_cache_as_without():
    model, pixels = _model(), torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        whole = model(IDS, pixels)
        cache = KVCache(model.config.text_config, 1, 16)
        first = model(IDS[:, :5], pixels, cache=cache)
        second = model(IDS[:, 5:], cache=cache, last_only=True)
    assert (torch.cat([first, second], dim=1) - whole[:, [0, 1, 2, 3, 4, 6]]).abs().max() < 1e-5


def test_the_projector_learns_with_the_rest_frozen():
    """As LLaVA's first stage: the encoder and the decoder stay, what lies between them is trained."""
    model, pixels = _model(), torch.randn(1, 3, 8, 8)
    for parameter in (*model.vision_tower.parameters(), *model.language_model.parameters()):
        parameter.requires_grad_(False)
    optimizer = torch.optim.Adam(model.multi_modal_projector.parameters(), lr=0.02)
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(model(IDS, pixels)[0, 4:6], IDS[0, 5:7])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 2


def test_both_spellings_of_the_towers_names(tmp_path: Path):
    model, pixels = _model().eval(), torch.randn(1, 3, 8, 8)
    save_vision_language(model, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert any(name.startswith("vision_tower.vision_model.") for name in tensors)
    short = {name.replace("vision_tower.vision_model.", "vision_tower."): one for name, one in tensors.items()}
    for files in (tensors, short):
        save_file(files, tmp_path / "model.safetensors", metadata={"format": "pt"})
        again = load_vision_language(tmp_path)
        with torch.no_grad():
            assert (again(IDS, pixels) - model(IDS, pixels)).abs().max() < 1e-5
    assert again.config.text_config.eos_token_id == (2, 3)
