"""The logit lens; what it reads is compared with transformers in tests/golden/test_looking_inside.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bloomery.core.errors import ConfigError
from bloomery.models import Decoder, KVCache, ModelConfig
from bloomery.models.encoder import Encoder
from bloomery.models.encoder_config import EncoderConfig
from bloomery.models.lens import blocks_of, lens, residuals

SIZES = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}


@torch.inference_mode()
def test_the_stream_of_the_last_forward():
    decoder = Decoder(ModelConfig(**SIZES, num_key_value_heads=2, head_dim=8, max_position_embeddings=32)).eval()
    ids = torch.arange(6)[None]
    with residuals(decoder) as found:
        decoder(ids)
        whole = [one.clone() for one in found]
        cache = KVCache(decoder.config, 1, 8)
        decoder(ids[:, :5], cache=cache)
        step = decoder(ids[:, 5:], cache=cache)
    assert [one.shape for one in whole] == [(1, 6, 16)] * 4
    assert torch.equal(whole[0], decoder.model.embed_tokens(ids))
    assert [one.shape for one in found] == [(1, 1, 16)] * 4
    assert torch.equal(lens(decoder, found[-1]), step)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in decoder.modules())


def test_models_without_a_head_over_a_vocabulary():
    encoder = Encoder(EncoderConfig(model_type="bert", head="none", max_position_embeddings=32, **SIZES))
    assert len(blocks_of(encoder)) == 3
    with pytest.raises(ConfigError, match="no head over a vocabulary"):
        lens(encoder, torch.zeros(1, 16))
    with pytest.raises(ConfigError, match="Linear"):
        blocks_of(nn.Linear(2, 2))
