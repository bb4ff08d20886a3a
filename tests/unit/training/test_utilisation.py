"""Operations counted beside PyTorch's own counter; the peak is one that a product really reaches."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bloomery.models import Decoder, ModelConfig
from bloomery.training.utilisation import Utilisation, matrix_peak, token_flops, utilisation

CONFIG = ModelConfig(
    vocab_size=50,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=32,
)


@pytest.mark.parametrize("tied", [False, True])
def test_a_step_counts_as_pytorch_counts_it(tied: bool):
    model = Decoder(dataclasses.replace(CONFIG, tie_word_embeddings=tied))
    ids = torch.randint(0, 50, (3, 32))
    with FlopCounterMode(display=False) as counter:
        model(ids).sum().backward()
    # It counts all of a causal row's scores, of which half are seen, and again in backward where a kernel recomputes;
    # the products by weights, which are all else, it counts as we do.
    seen = 6.0 * 2 * (33 / 2) * 2 * 4 * 8 * ids.numel()
    weights = sum(flops for name, flops in counter.get_flop_counts()["Global"].items() if "attention" not in str(name))
    assert token_flops(model, 32) * ids.numel() - seen == pytest.approx(weights, rel=0.001)


def test_a_window_is_seen_only_so_far():
    own = {"model_type": "mistral", "layer_types": ("sliding_attention",) * 2, "sliding_window": 4}
    model = Decoder(dataclasses.replace(CONFIG, **own))
    full, narrow = (token_flops(m, 32) for m in (Decoder(dataclasses.replace(CONFIG, model_type="llama")), model))
    seen = sum(min(place + 1, 4) for place in range(32)) / 32
    assert full - narrow == pytest.approx(12 * 2 * 32 * (33 / 2 - seen))


def test_the_peak_is_positive_and_the_text_says_both():
    assert 1e7 < matrix_peak(seconds=0.0, size=128) < 1e15
    used = Utilisation(done=93.72e9, peak=132e9)
    assert used.text == "utilisation 71% of 132 GFLOP/s"
    assert used.to_dict()["utilisation"] == pytest.approx(0.71)
    found = utilisation(Decoder(CONFIG), 10.0, 32, precision="float32", device=torch.device("cpu"))
    assert 0 < found.share < 1 and math.isfinite(found.peak)
