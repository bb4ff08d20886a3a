"""A LoRA adapter with random matrices for a folder's model, in PEFT's published format and without PEFT.

`tests/golden/test_adapters.py` compares the format with PEFT's own. Test folders read it with `runpy`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def make_tiny_adapter(
    folder: Path,
    base: Path,
    *,
    seed: int = 0,
    rank: int = 4,
    targets: tuple[str, ...] = ("q_proj", "v_proj", "down_proj"),
    scale: float = 0.3,
    **config: Any,
) -> Path:
    """Write adapter_config.json and adapter_model.safetensors for the Llama-like model in `base`; returns `folder`."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    with safe_open(base / "model.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118
            module = name.removesuffix(".weight")
            if module.rpartition(".")[2] not in targets:
                continue
            outputs, inputs = file.get_slice(name).get_shape()
            for part, shape in (("lora_A", (rank, inputs)), ("lora_B", (outputs, rank))):
                tensors[f"base_model.model.{module}.{part}.weight"] = torch.randn(shape, generator=generator) * scale
    save_file(tensors, folder / "adapter_model.safetensors")
    document = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": list(targets), **config}
    (folder / "adapter_config.json").write_text(json.dumps(document))
    return folder
