"""GGUF of encoders: sizes and poolings that llama.cpp has; whole files are tested in test_gguf_file.py."""

from __future__ import annotations

import gguf
import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.engine.gguf_encoder import GGUF_ENCODERS, encoder_tensors, gguf_encoder, write_encoder
from bloomery.models.encoder import Encoder
from bloomery.models.encoder_config import EncoderConfig
from bloomery.models.encoder_families import ENCODER_FAMILIES
from bloomery.models.pooling import Pooling

MODERN = {
    "model_type": "modernbert",
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "local_attention": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
}


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
    names = [name for name, _ in encoder_tensors(encoder, gguf_encoder(encoder.config))]
    assert len(set(names)) == len(names) == 5 + 2 * 16
    map_ = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, 2)
    theirs = map_.get_name("encoder.layer.1.attention.output.LayerNorm.bias", try_suffixes=(".weight", ".bias"))
    assert theirs in names


def test_what_llama_cpp_does_not_compute(tmp_path):
    with pytest.raises(ConfigError, match="relu"):
        gguf_encoder(_config(hidden_act="relu"))
    with pytest.raises(ConfigError, match="biases"):
        gguf_encoder(EncoderConfig.from_hf({**MODERN, "norm_bias": True}))
    with pytest.raises(ConfigError, match="max pooling"):
        write_encoder(gguf, gguf.GGUFWriter(tmp_path / "x.gguf", "bert"), _config(), Pooling(mode="max"))


def test_positions_that_begin_after_padding():
    encoder = Encoder(_config(model_type="roberta", pad_token_id=1, type_vocab_size=1))
    found = dict(encoder_tensors(encoder, gguf_encoder(encoder.config)))
    assert torch.equal(found["position_embd.weight"], encoder.embed_positions.weight[2:])  # type: ignore[union-attr]


def test_modernbert_is_what_transformers_has():
    """The tensors of transformers' own model, under the names that ggml's own table gives them."""
    from transformers import ModernBertConfig, ModernBertModel

    values = {key: value for key, value in MODERN.items() if key != "model_type"}
    theirs = ModernBertModel(ModernBertConfig(**values)).state_dict()
    encoder = Encoder(EncoderConfig.from_hf(MODERN))
    ours = encoder.config.names().read
    state = dict(pair for name, tensor in theirs.items() for pair in ours(f"model.{name}", tensor))
    encoder.load_state_dict(state)
    found = dict(encoder_tensors(encoder, gguf_encoder(encoder.config)))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MODERN_BERT, 4)
    expected = {names.get_name(name, try_suffixes=(".weight", ".bias")): tensor for name, tensor in theirs.items()}
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def test_every_family_of_encoders():
    assert GGUF_ENCODERS.keys() == ENCODER_FAMILIES.keys()
    assert {family.architecture for family in GGUF_ENCODERS.values()} <= set(gguf.MODEL_ARCH_NAMES.values())
