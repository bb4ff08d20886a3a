"""Pooling against sentence-transformers' own module, and folders that describe something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.core.errors import ConfigError, DataError
from bloomery.models.pooling import MODES, Pooling, pooling_files

MODULES = [{"type": "sentence_transformers.models.Transformer", "path": ""}]
POOLING = {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}
NORMALIZE = {"type": "sentence_transformers.models.Normalize", "path": "2_Normalize"}

MEAN = {"pooling_mode_mean_tokens": True}


def _folder(path: Path, modules: Any, pooling: dict[str, Any]) -> Path:
    (path / "1_Pooling").mkdir()
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return path


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("mode", [*MODES, "cls+max+mean"])
def test_pooling_is_the_reference(mode: str, normalize: bool):
    from sentence_transformers.sentence_transformer.modules import Pooling as Reference

    torch.manual_seed(0)
    hidden, mask = torch.randn(3, 7, 8), torch.ones(3, 7, dtype=torch.int64)
    mask[1, 4:] = mask[2, 1:] = 0
    theirs = Reference(8, pooling_mode=tuple(mode.split("+")))({"token_embeddings": hidden, "attention_mask": mask})
    expected = theirs["sentence_embedding"]
    expected = torch.nn.functional.normalize(expected, dim=-1) if normalize else expected
    torch.testing.assert_close(Pooling(mode=mode, normalize=normalize)(hidden, mask), expected)


@pytest.mark.parametrize(
    ("modules", "normalize"), [([*MODULES, POOLING], False), ([*MODULES, POOLING, NORMALIZE], True)]
)
def test_a_folder_says_how(modules: list[dict[str, str]], normalize: bool, tmp_path: Path):
    folder = _folder(tmp_path, modules, {"word_embedding_dimension": 8, "pooling_mode_cls_token": True})
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 99}')
    assert Pooling.from_folder(folder) == Pooling(mode="cls", normalize=normalize, max_length=99)


def test_newer_folders_name_the_mode(tmp_path: Path):
    folder = _folder(tmp_path, [*MODULES, POOLING], {"pooling_mode": "max"})
    assert Pooling.from_folder(folder) == Pooling(mode="max", normalize=False)


def test_no_description(tmp_path: Path):
    assert Pooling.from_folder(tmp_path) is None


@pytest.mark.parametrize(
    ("modules", "pooling", "error"),
    [
        ([*MODULES, POOLING, {"type": "sentence_transformers.models.LayerNorm", "path": "2"}], MEAN, ConfigError),
        ([*MODULES, {"type": "sentence_transformers.models.Dense", "path": "2"}, POOLING], MEAN, ConfigError),
        ([*MODULES, POOLING, NORMALIZE, {"type": "x.Dense", "path": "2"}], MEAN, ConfigError),
        ([*MODULES, POOLING, NORMALIZE, NORMALIZE], MEAN, ConfigError),
        ([*MODULES, POOLING, POOLING], MEAN, ConfigError),
        (MODULES, {}, ConfigError),
        ([*MODULES, POOLING], {"pooling_mode": "median"}, ConfigError),
        ([*MODULES, POOLING], {"pooling_mode": ["mean", 3]}, ConfigError),
        ([*MODULES, POOLING], {}, ConfigError),
        ([{**POOLING, "path": "../../etc"}], {}, DataError),
        ([{**POOLING, "path": 3}], {}, DataError),
        ({"a": 1}, {}, DataError),
        (["a"], {}, DataError),
    ],
)
def test_what_it_does_not_know(modules: Any, pooling: dict[str, Any], error: type[Exception], tmp_path: Path):
    with pytest.raises(error):
        Pooling.from_folder(_folder(tmp_path, modules, pooling))


def test_damage(tmp_path: Path):
    for text in ("", "[" * 100_000):
        (tmp_path / "modules.json").write_text(text)
        with pytest.raises(DataError):
            Pooling.from_folder(tmp_path)


def test_older_folders_switch_several_on(tmp_path: Path):
    switched = {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True, "pooling_mode_cls_token": False}
    pooling = Pooling.from_folder(_folder(tmp_path, [*MODULES, POOLING], switched))
    assert pooling is not None and pooling.mode == "max+mean" and pooling.size(8) == 16


@pytest.mark.parametrize(
    ("name", "values", "error"),
    [
        ("2_Dense/config.json", {"activation_function": "os.system"}, ConfigError),
        ("2_Dense/config.json", {"activation_function": "torch.nn.modules.activation.Softplus"}, ConfigError),
        ("2_Dense/config.json", {"out_features": 3}, DataError),
        ("2_Dense/config.json", {"bias": False}, DataError),
        ("2_Dense/config.json", {"use_residual": True}, ConfigError),
        ("2_Dense/model.safetensors", None, DataError),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}, ConfigError),
    ],
)
def test_layers_and_prompts_it_does_not_know(name: str, values: Any, error: type[Exception], tmp_path: Path):
    from safetensors.torch import save_file

    folder = _folder(
        tmp_path, [*MODULES, POOLING, {"type": "sentence_transformers.models.Dense", "path": "2_Dense"}], MEAN
    )
    (folder / "2_Dense").mkdir()
    plain = {
        "in_features": 8,
        "out_features": 4,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    (folder / "2_Dense" / "config.json").write_text(json.dumps(plain))
    save_file({"linear.weight": torch.ones(4, 8), "linear.bias": torch.ones(4)}, folder / "2_Dense/model.safetensors")
    pooling = Pooling.from_folder(folder)
    assert pooling is not None and pooling.size(8) == 4
    assert "2_Dense/model.safetensors" in pooling_files(folder) and "2_Dense/config.json" in pooling_files(folder)
    if values is None:
        (folder / name).write_bytes(b"no tensors")
    else:
        (folder / name).write_text(json.dumps({**plain, **values}))
    with pytest.raises(error) as caught:
        Pooling.from_folder(folder)
    assert "\n" not in str(caught.value)
