"""The encoder: padding changes nothing, mistakes are clear, gradients reach what they should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.core.errors import ConfigError, DataError, RequestError
from bloomery.models.encoder import Encoder, load_encoder, save_encoder
from bloomery.models.encoder_config import EncoderConfig

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "intermediate_size": 24,
    "vocab_size": 40,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}


def _encoder(family: str, head: str = "none") -> Encoder:
    extra = {"local_attention": 4} if family == "modernbert" else {}
    torch.manual_seed(0)
    config = EncoderConfig.from_hf({"model_type": family, **SMALL, **extra})
    return Encoder(replace(config, head=head)).eval()


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_padding_changes_nothing(family: str):
    encoder = _encoder(family)
    ids = torch.randint(1, 40, (1, 9), generator=torch.Generator().manual_seed(0))
    padded = torch.cat((ids, torch.zeros(1, 20, dtype=torch.int64)), dim=1)
    mask = (padded != 0).long()
    with torch.inference_mode():
        out = encoder.hidden_states(padded, mask)
        assert out.isfinite().all()
        # Another length may take another order of sums.
        torch.testing.assert_close(out[:, :9], encoder.hidden_states(ids), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head", ["masked", "sequence", "token"])
@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_gradients_reach_every_parameter(family: str, head: str):
    encoder = _encoder(family, head).train()
    ids = torch.randint(1, 40, (2, 9), generator=torch.Generator().manual_seed(0))
    encoder(ids, torch.ones_like(ids)).log_softmax(-1)[..., 0].sum().backward()
    # Softmax does not see a shift of all scores of a query: a key's bias has no gradient but rounding.
    unused = {name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()}
    assert {name for name in unused if "k_proj.bias" not in name} == set()


def test_both_sides_are_seen():
    encoder, ids = _encoder("bert"), torch.arange(1, 10)[None]
    changed = ids.clone()
    changed[0, -1] = 30
    with torch.inference_mode():
        assert (encoder.hidden_states(ids) - encoder.hidden_states(changed))[0, 0].abs().max() > 1e-3


def test_mistakes(tmp_path: Path):
    encoder = _encoder("roberta")
    with pytest.raises(ConfigError, match="no head"):
        encoder(torch.ones(1, 3, dtype=torch.int64))
    with pytest.raises(RequestError, match="31"):
        encoder.hidden_states(torch.ones(1, 32, dtype=torch.int64))
    save_encoder(encoder, tmp_path)
    assert load_encoder(tmp_path).config == encoder.config
    save_encoder(_encoder("bert"), tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").rename(tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="unexpected"):
        load_encoder(tmp_path)
