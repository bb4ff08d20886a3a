"""GGUF of encoders: sizes and poolings that llama.cpp has; whole files are tested in test_gguf_file.py."""

from __future__ import annotations

import gguf
import pytest

from bloomery.core.errors import ConfigError
from bloomery.engine.gguf_encoder import encoder_tensors, write_encoder
from bloomery.models.encoder import Encoder
from bloomery.models.encoder_config import EncoderConfig
from bloomery.models.pooling import Pooling


def _config(**changes) -> EncoderConfig:
    values = {
        "model_type": "bert",
        "vocab_size": 40,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
        **changes,
    }
    return EncoderConfig.from_hf(values)


def test_the_body_without_its_head():
    encoder = Encoder(_config(architectures=["BertForSequenceClassification"]))
    names = [name for name, _ in encoder_tensors(encoder)]
    assert len(set(names)) == len(names) == 5 + 2 * 16
    map_ = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, 2)
    theirs = map_.get_name("encoder.layer.1.attention.output.LayerNorm.bias", try_suffixes=(".weight", ".bias"))
    assert theirs in names


def test_what_llama_cpp_does_not_compute(tmp_path):
    for config, pooling, word in (
        (_config(model_type="roberta", pad_token_id=1), None, "roberta"),
        (_config(hidden_act="relu"), None, "relu"),
        (_config(), Pooling(mode="max"), "max pooling"),
    ):
        with pytest.raises(ConfigError, match=word):
            write_encoder(gguf, gguf.GGUFWriter(tmp_path / "x.gguf", "bert"), config, pooling)
