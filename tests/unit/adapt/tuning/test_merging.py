"""Adapters merged into models of their own: the same answers, labels and files."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from bloomery.adapt.tuning.adapter_files import save_adapter
from bloomery.adapt.tuning.lora import add_lora, trainable
from bloomery.adapt.tuning.lora_config import LoraConfig
from bloomery.adapt.tuning.merging import merge_adapter
from bloomery.core.errors import ArtifactError, ConfigError
from bloomery.engine import import_model
from bloomery.models import load_pretrained

make_tiny_model = runpy.run_path(str(Path(__file__).parents[3] / "tiny_model.py"))["make_tiny_model"]


def test_a_folder_and_its_base(tmp_path: Path):
    base = make_tiny_model(tmp_path / "tiny")
    decoder = load_pretrained(base, dtype=torch.float32)
    add_lora(decoder, LoraConfig(r=2, use_dora=True))
    with torch.no_grad():
        for parameter in trainable(decoder).values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    save_adapter(decoder, tmp_path / "adapter")
    home = tmp_path / "home"
    made = merge_adapter(tmp_path / "adapter", model=base, workspace=home)
    ids = torch.arange(5, 25)[None]
    merged = load_pretrained(made.path, dtype=torch.float32)
    torch.testing.assert_close(merged(ids), decoder(ids).detach(), atol=1e-5, rtol=1e-5)
    assert made.kind == "model" and merge_adapter(tmp_path / "adapter", model=base, workspace=home).id == made.id
    with pytest.raises(ConfigError, match="which artifact it belongs to"):
        merge_adapter(tmp_path / "adapter", workspace=home)
    with pytest.raises(ArtifactError, match="not an adapter"):
        merge_adapter(import_model(base, workspace=home), workspace=home)
