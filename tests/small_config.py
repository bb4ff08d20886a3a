"""The small ModelConfig of the planning tests.

Test modules read it with `runpy`, for pytest's import mode knows no helper modules.
"""

from __future__ import annotations

from bloomery.models import ModelConfig

BASE = ModelConfig(
    vocab_size=512,
    hidden_size=128,
    intermediate_size=320,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    head_dim=64,
    max_position_embeddings=64,
)
