"""Opening a glass box: what is below a head of classes, and what has no attention, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bloomery.core.errors import RequestError
from bloomery.engine.glass_box_open import open_glass_box
from bloomery.models.decoder_classifier import DecoderClassifier, save_decoder_classifier
from bloomery.models.pretrained import load_pretrained
from bloomery.tokenizer import Tokenizer
from bloomery.training.building import NetConfig, build
from bloomery.training.publishing import save_model


def test_a_decoder_with_a_head_is_a_decoder(tiny_folder: Path, tmp_path: Path):
    model = DecoderClassifier.of(load_pretrained(tiny_folder), num_labels=3, pad_token_id=0)
    save_decoder_classifier(model, tmp_path / "model")
    Tokenizer.load(tiny_folder).save(tmp_path / "model")
    ours = open_glass_box(tmp_path / "model", device="cpu").attention("How are you?")
    plain = open_glass_box(tiny_folder, device="cpu").attention("How are you?")
    weights = [torch.tensor([key.weight for key in view.keys]) for view in (ours, plain)]
    torch.testing.assert_close(*weights)


@pytest.mark.parametrize("family", ["mean", "conv"])
def test_a_classifier_without_attention(family: str, tiny_folder: Path, tmp_path: Path):
    tokenizer = Tokenizer.load(tiny_folder)
    net = NetConfig(family=family, hidden_size=16)
    save_model(build("classes", net, tokenizer, context_length=32, num_labels=2), tmp_path / "model")
    tokenizer.save(tmp_path / "model")
    with pytest.raises(RequestError, match="has no attention") as caught:
        open_glass_box(tmp_path / "model", device="cpu")
    assert "\n" not in caught.value.one_line()
