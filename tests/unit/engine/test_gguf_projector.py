"""GGUF of what LLaVA sees with: names as ggml's own table has them, and what llama.cpp cannot compute is refused.

llama.cpp itself reads it in tests/golden/test_llama_cpp_vision.py.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.engine.gguf_file import export_gguf, gguf_files
from bloomery.engine.gguf_projector import check_projector
from bloomery.models.image_processor import ImageProcessor
from bloomery.models.vision_language import load_vision_language
from bloomery.models.vision_language_config import VisionLanguageConfig

models = runpy.run_path(str(Path(__file__).parents[2] / "gguf_models.py"))


@pytest.mark.parametrize("case", models["SEES"])
def test_every_tensor_under_ggmls_name(case: str, tmp_path: Path):
    import gguf
    import torch
    from transformers import LlavaForConditionalGeneration

    folder = models["random_llava"](tmp_path / "model", **models["SEES"][case])
    notes: list[str] = []
    text, sees = gguf_files(folder, tmp_path / "m.gguf", note=notes.append)
    assert (text.name, sees.name) == ("m.gguf", "mmproj-m.gguf") and any("--mmproj" in note for note in notes)
    reader = gguf.GGUFReader(sees)
    found = {tensor.name: torch.from_numpy(np.array(tensor.data)) for tensor in reader.tensors}
    theirs = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).state_dict()
    config = load_vision_language(folder).config
    last = max(layer % (config.vision_config.num_hidden_layers + 1) for layer in config.layers)
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, last)
    used = set()
    for name, tensor in theirs.items():
        if "language_model" in name or "lm_head" in name:
            continue
        full = name.removeprefix("model.")
        if "projector" in full:  # of LLaVA's two, llama.cpp's loader calls the second one 2
            known = full.replace("multi_modal_projector.linear_1", "mm.0").replace(
                "multi_modal_projector.linear_2", "mm.2"
            )
        else:
            if "vision_model" not in full:
                full = full.replace("vision_tower.", "vision_tower.vision_model.")
            known = table.get_name(full, try_suffixes=(".weight", ".bias"))
        if known is None or known.startswith("v.post_ln") or known not in found:
            layer = full.split("layers.")[1].split(".")[0] if "layers." in full else None
            assert "post_layernorm" in full or ".head." in full or (layer and int(layer) >= last), full
            continue
        assert torch.equal(found[known].reshape(tensor.shape), tensor), full
        used.add(known)
    assert found.keys() - used <= ({"mm.0.bias", "mm.2.bias"} if not config.multimodal_projector_bias else set())

    def value(key: str) -> Any:
        return reader.fields[key].contents()

    assert value("general.architecture") == "clip" and value("clip.projector_type") == "mlp"
    assert value("clip.vision.block_count") == last and value("clip.vision.image_size") == 28
    assert value("clip.vision.projection_dim") == config.text_config.hidden_size
    assert gguf.GGUFReader(text).fields["general.architecture"].contents() == config.text_config.model_type


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"projector_hidden_act": "relu"}, "projector_hidden_act relu"),
        ({"vision_feature_select_strategy": "full"}, "vision_feature_select_strategy full"),
        ({"vision_feature_layer": [-1, 1]}, "vision_feature_layer"),
    ],
)
def test_what_llama_cpp_does_not_compute(changes: dict[str, Any], said: str):
    text = {"model_type": "llama", **models["SIZES"], "vocab_size": 300}
    config = VisionLanguageConfig.from_hf({"model_type": "llava", "text_config": text, "image_token_id": 1, **changes})
    with pytest.raises(ConfigError, match=said) as caught:
        check_projector(config, ImageProcessor())
    assert "\n" not in caught.value.one_line() and caught.value.hint


def test_neither_file_is_written_over(tmp_path: Path):
    folder = models["random_llava"](tmp_path / "model", **models["SEES"]["clip"])
    (tmp_path / "mmproj-m.gguf").write_text("mine")
    with pytest.raises(DataError, match=r"mmproj-m\.gguf is there already"):
        export_gguf(folder, tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists() and (tmp_path / "mmproj-m.gguf").read_text() == "mine"
