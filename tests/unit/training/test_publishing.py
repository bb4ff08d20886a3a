"""Every kind of model written so that its own loader reads it back."""

from __future__ import annotations

import pytest
import torch

from bloomery.models.classifiers import load_classifier
from bloomery.models.decoder_classifier import load_decoder_classifier
from bloomery.models.encoder import load_encoder
from bloomery.tokenizer import Tokenizer
from bloomery.training.building import NetConfig, build
from bloomery.training.publishing import save_model


@pytest.mark.parametrize(
    ("family", "kind", "load"),
    [
        ("modernbert", "encoder", load_encoder),
        ("qwen3", "classifier", load_decoder_classifier),
        ("mean", "classifier", load_classifier),
        ("conv", "classifier", load_classifier),
    ],
)
def test_round_trip(material, tmp_path, family, kind, load):
    tokenizer = Tokenizer.load(material.tokenizer.path)
    net = NetConfig(family=family, hidden_size=32, num_hidden_layers=1)
    model = build("classes", net, tokenizer, context_length=32, num_labels=3).eval()
    assert save_model(model, tmp_path, labels=["x", "y", "z"]) == kind
    again = load(tmp_path)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        # Weights that are mapped from a file lie at other addresses: kernels may round the last bit otherwise.
        assert torch.allclose(model(ids), again(ids), atol=1e-6)
    if family == "modernbert":
        assert again.config.id2label == {"0": "x", "1": "y", "2": "z"}
