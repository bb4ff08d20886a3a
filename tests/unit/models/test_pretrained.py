"""Published folders: what a text ends with, and a head that is the embedding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bloomery.core.errors import DataError
from bloomery.models import Decoder, ModelConfig, load_pretrained, read_config, save_pretrained
from bloomery.models.families import FAMILIES

SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "eos_token_id": 0,
    "partial_rotary_factor": 0.5,
}


def _config(family: str) -> ModelConfig:
    keys = {"partial_rotary_factor"} if "partial_rotary_factor" not in FAMILIES[family].fields else set()
    keys |= FAMILIES[family].fixed & {"intermediate_size"}
    sizes = {key: value for key, value in SIZES.items() if key not in keys}
    heads = {} if family in ("bloom", "gpt2", "gpt_neox") else {"num_key_value_heads": 1, "head_dim": 8}
    own = {} if FAMILIES[family].published else {"value_embedding_layers": [1], "bigram_vocab_size": 50}
    return ModelConfig.from_hf({"model_type": family, **sizes, **heads, **own})


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_model_that_is_tied_is_written_once(family: str, tmp_path: Path):
    config = _config(family)
    torch.manual_seed(0)
    save_pretrained(Decoder(config), tmp_path)
    heads = [
        name for name in load_file(tmp_path / "model.safetensors") if name in ("lm_head.weight", "embed_out.weight")
    ]
    assert len(heads) == (0 if config.tie_word_embeddings else 1)
    again = load_pretrained(tmp_path)
    assert again.config == config and not again.training
    assert not any(p.requires_grad for p in again.parameters())


def test_end_ids_of_generation_config_are_added(tmp_path: Path):
    save_pretrained(Decoder(_config("llama")), tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [3, 9]}))
    assert read_config(tmp_path).eos_token_id == (0, 3, 9)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": ["x"]}))
    with pytest.raises(DataError, match="eos_token_id"):
        read_config(tmp_path)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "phi3", "mixtral"])
def test_damage_is_told_by_the_files_own_name(family: str, tmp_path: Path):
    """A tensor of the wrong shape in a family with weight rules, and one that is missing."""
    from safetensors.torch import save_file

    config = _config(family)
    save_pretrained(Decoder(config), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = config.names().rules[-1].theirs
    save_file({**tensors, name: torch.ones(7, 3, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="shape"):
        load_pretrained(tmp_path)
    save_file({k: v for k, v in tensors.items() if k != name}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="missing"):
        load_pretrained(tmp_path)
    save_file({**tensors, config.names().rules[-1].ours[0]: torch.ones(3)}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="unexpected"):
        load_pretrained(tmp_path)
