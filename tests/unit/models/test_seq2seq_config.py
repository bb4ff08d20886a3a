"""Seq2SeqConfig: published configs are read and written back, what is not supported is named."""

from __future__ import annotations

from typing import Any

import pytest

from bloomery.core.errors import ConfigError
from bloomery.models.seq2seq_config import Seq2SeqConfig


@pytest.mark.parametrize("name", ["t5", "mt5"])
def test_every_key_of_the_reference_is_known(name: str):
    from transformers import AutoConfig

    config = Seq2SeqConfig.from_hf({**AutoConfig.for_model(name).to_dict(), "model_type": name})
    assert Seq2SeqConfig.from_hf(config.to_hf()) == config
    assert Seq2SeqConfig.from_hf({"model_type": name}) == config
    assert config.dropout_rate == 0.1


def test_a_tied_head_is_scaled_and_another_is_not():
    assert Seq2SeqConfig.from_hf({"model_type": "t5"}).scale_decoder_outputs
    assert not Seq2SeqConfig.from_hf({"model_type": "t5", "tie_word_embeddings": False}).scale_decoder_outputs
    five = {"model_type": "t5", "tie_word_embeddings": True, "scale_decoder_outputs": False}
    assert not Seq2SeqConfig.from_hf(five).scale_decoder_outputs


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"model_type": "bart"}, "bart"),
        ({"a_new_key": 1}, "a_new_key"),
        ({"d_model": 0}, "d_model"),
        ({"num_heads": "8"}, "num_heads"),
        ({"feed_forward_proj": "gated-gelo"}, "gelo"),
        ({"relative_attention_num_buckets": 6}, "buckets"),
        ({"relative_attention_max_distance": 8}, "distance"),
        ({"layer_norm_epsilon": 0.0}, "epsilon"),
        ({"dropout_rate": 1.0}, "dropout_rate"),
        ({"quantization_config": {"bits": 4}}, "quantization"),
    ],
)
def test_what_is_not_supported(changed: dict[str, Any], word: str):
    with pytest.raises(ConfigError, match=word):
        Seq2SeqConfig.from_hf({"model_type": "t5", **changed})
