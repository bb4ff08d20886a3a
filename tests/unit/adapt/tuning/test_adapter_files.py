"""Adapters of classifiers as PEFT's folders, and folders that do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bloomery.adapt.tuning.adapter_files import load_adapter, save_adapter
from bloomery.adapt.tuning.lora import add_lora, trainable
from bloomery.adapt.tuning.lora_config import LoraConfig
from bloomery.core.errors import ConfigError, DataError
from bloomery.models import Decoder, ModelConfig
from bloomery.models.decoder_classifier import load_decoder_classifier
from bloomery.models.encoder import load_encoder

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*fan_in_fan_out.*:UserWarning"),
]
SMALL: dict[str, Any] = {
    "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 64, "pad_token_id": 0, "num_labels": 3,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": SMALL,
    "gpt2": {"vocab_size": 61, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4}
    | {"pad_token_id": 0, "num_labels": 3},
    "bert": SMALL,
    "roberta": {**SMALL, "pad_token_id": 1},
    "modernbert": {**SMALL, "cls_token_id": 1, "sep_token_id": 2, "reference_compile": False},
}


def _base(family: str, folder: Path) -> Any:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **FAMILIES[family])
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").eval()
    model.save_pretrained(folder)
    return model


def _load(family: str, folder: Path) -> torch.nn.Module:
    return load_decoder_classifier(folder) if family in ("llama", "gpt2") else load_encoder(folder)


def _fuzz(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in trainable(model).values():
            parameter.add_(torch.randn_like(parameter) * 0.1)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_classifiers(tmp_path: Path, family: str, dora: bool):
    """PEFT puts our adapter and head on transformers' classifier: the same logits; and we read them again."""
    from peft import PeftModel

    base = _base(family, tmp_path / "base")
    model = _load(family, tmp_path / "base")
    torch.manual_seed(5)
    names = list(trainable_names(add_lora(model, LoraConfig(r=4, use_dora=dora)), model))
    assert any(not name.startswith("lora.") for name in names)
    _fuzz(model)
    ids = torch.randint(3, 61, (2, 11), generator=torch.Generator().manual_seed(1))
    ours = model(ids).detach()
    save_adapter(model, tmp_path / "ours")
    theirs = PeftModel.from_pretrained(base, tmp_path / "ours").eval()
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    again = _load(family, tmp_path / "base")
    load_adapter(again, tmp_path / "ours")
    assert torch.equal(again(ids).detach(), ours)


def trainable_names(parameters: list[torch.nn.Parameter], model: torch.nn.Module) -> list[str]:
    wanted = {id(p) for p in parameters}
    return [name for name, p in model.named_parameters() if id(p) in wanted]


def test_folders_that_do_not_fit(tmp_path: Path):
    sizes = {key: value for key, value in SMALL.items() if key not in ("pad_token_id", "num_labels")}

    def decoder() -> Decoder:
        return Decoder(ModelConfig(model_type="llama", num_key_value_heads=4, head_dim=8, **sizes))

    with pytest.raises(ConfigError, match="no adapter to save"):
        save_adapter(decoder(), tmp_path / "a")
    model = decoder()
    add_lora(model, LoraConfig(r=2, target_modules=("q_proj",)))
    save_adapter(model, tmp_path / "a")
    weights = tmp_path / "a" / "adapter_model.safetensors"
    tensors = load_file(weights)
    key = next(iter(tensors))
    for change, message in (
        ({key: torch.zeros(7, 7)}, "finite numbers"),
        ({"base_model.model.more": torch.zeros(2)}, "unexpected tensor"),
        ({key: torch.full_like(tensors[key], torch.nan)}, "finite numbers"),
    ):
        save_file({**tensors, **change}, weights)
        with pytest.raises(DataError, match=message):
            load_adapter(decoder(), tmp_path / "a")
    save_file({name: tensor for name, tensor in tensors.items() if name != key}, weights)
    with pytest.raises(DataError, match="is missing"):
        load_adapter(decoder(), tmp_path / "a")
    weights.unlink()
    with pytest.raises(DataError, match="has no adapter_model"):
        load_adapter(decoder(), tmp_path / "a")
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps({"peft_type": "IA3"}))
    with pytest.raises(DataError, match="peft_type"):
        load_adapter(decoder(), tmp_path / "a")
