"""Decoders that give labels: against transformers, with padding, there and back."""

from __future__ import annotations

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.models import Decoder, ModelConfig
from bloomery.models.decoder_classifier import DecoderClassifier, load_decoder_classifier, save_decoder_classifier


def _config(family: str) -> ModelConfig:
    return ModelConfig(
        model_type=family,
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        head_dim=8,
        max_position_embeddings=64,
    )


@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral"])
def test_logits_equal_transformers(tmp_path, family):
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    model = DecoderClassifier(_config(family), num_labels=3, pad_token_id=0).eval()
    save_decoder_classifier(model, tmp_path)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    ids, mask = torch.randint(1, 100, (3, 10)), torch.ones(3, 10, dtype=torch.int64)
    ids[1, 6:], mask[1, 6:] = 0, 0
    with torch.no_grad():
        ours = model(ids, mask)
        assert (theirs(ids, attention_mask=mask).logits - ours).abs().max() < 1e-4
        assert torch.equal(load_decoder_classifier(tmp_path)(ids, mask), ours)
        assert torch.allclose(model(ids[1:2, :6]), ours[1:2], atol=1e-5)


def test_a_decoders_weights_are_kept():
    torch.manual_seed(0)
    decoder = Decoder(_config("llama")).eval()
    model = DecoderClassifier.of(decoder, num_labels=2).eval()
    ids = torch.randint(1, 100, (1, 5))
    with torch.no_grad():
        assert torch.equal(model.decoder.hidden_states(ids), decoder.hidden_states(ids))
    assert not any("lm_head" in name for name, _ in model.named_parameters())
    with pytest.raises(ConfigError, match="num_labels"):
        DecoderClassifier.of(decoder, num_labels=0)
