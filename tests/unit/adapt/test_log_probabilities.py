"""Log-probabilities against PyTorch's log_softmax over whole logits: values, gradients, memory in parts."""

from __future__ import annotations

import pytest
import torch

import bloomery.adapt.log_probabilities as module
from bloomery.adapt.log_probabilities import chunks, label_logprobs, token_logprobs
from bloomery.models import Decoder, ModelConfig

SIZES = {
    "model_type": "qwen3",
    "vocab_size": 97,
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 32,
    "head_dim": 12,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,
}


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_values_and_gradients_are_those_of_whole_logits(monkeypatch, softcap, temperature):
    monkeypatch.setattr(module, "_CPU_CHUNK_BYTES", 4 * 97 * 16)  # several parts
    torch.manual_seed(0)
    hidden, weight = torch.randn(50, 24, requires_grad=True), torch.randn(97, 24, requires_grad=True)
    labels = torch.randint(0, 97, (50,))
    labels[::3] = -100
    scales = torch.randn(50)  # every token weighs differently, as in preference losses
    found = label_logprobs(hidden, weight, labels, softcap=softcap, temperature=temperature)
    gradients = torch.autograd.grad((found * scales).sum(), (hidden, weight))
    logits = hidden @ weight.T
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    each = (logits / temperature).log_softmax(-1).gather(1, labels.clamp_min(0)[:, None])[:, 0]
    expected = each.masked_fill(labels == -100, 0.0)
    assert torch.allclose(found, expected, atol=1e-5)
    for ours, theirs in zip(gradients, torch.autograd.grad((expected * scales).sum(), (hidden, weight)), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_no_label_is_no_loss_but_still_has_a_gradient():
    hidden, weight = torch.randn(4, 8, requires_grad=True), torch.randn(10, 8)
    found = label_logprobs(hidden, weight, torch.full((4,), -100))
    found.sum().backward()
    assert found.tolist() == [0.0] * 4 and hidden.grad is not None and not hidden.grad.any()


def test_tokens_of_a_decoder_do_not_see_what_they_are_padded_with():
    torch.manual_seed(1)
    decoder = Decoder(ModelConfig(**SIZES))  # type: ignore[arg-type]
    ids = torch.randint(1, 97, (1, 9))
    alone = token_logprobs(decoder, ids[:, :-1], ids[:, 1:])
    padded = torch.cat((ids[:, :-1], torch.zeros(1, 5, dtype=torch.long)), 1)
    labels = torch.cat((ids[:, 1:], torch.full((1, 5), -100)), 1)
    found = token_logprobs(decoder, padded, labels)
    assert torch.allclose(found[:, :8], alone, atol=1e-6) and not found[:, 8:].any()
    whole = decoder(ids[:, :-1]).log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    assert torch.allclose(alone, whole, atol=1e-5)


def test_parts_cover_every_row_once():
    parts = list(chunks(1000, 50_000, torch.device("cpu")))
    assert [n for part in parts for n in range(1000)[part]] == list(range(1000)) and len(parts) > 1
