"""adapter_config.json: read as PEFT means it, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.errors import DataError
from bloomery.models.adapter_config import AdapterConfig

GOOD = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
LAYERS = [f"model.layers.{n}.{part}" for n in range(3) for part in ("self_attn.q_proj", "mlp.up_proj")] + ["lm_head"]
BAD: dict[str, dict[str, Any]] = {
    "peft_type": {"peft_type": "PROMPT_TUNING"},
    "r": {"r": 10**9},
    "r should": {"r": True},
    "r ": {"r": 0},
    "lora_alpha": {"lora_alpha": "8"},
    "lora_alpha should": {"lora_alpha": float("nan")},
    "bias": {"bias": "all"},
    "'modules_to_save'": {"modules_to_save": ["lm_head"]},
    "'target_parameters'": {"target_parameters": ["mlp.experts.gate_up_proj"]},
    "'layer_replication'": {"layer_replication": [[0, 2], [1, 3]]},
    "'trainable_token_indices'": {"trainable_token_indices": [1]},
    "'alora_invocation_tokens'": {"alora_invocation_tokens": [1]},
    "'use_qalora'": {"use_qalora": True},
    "'lora_bias'": {"lora_bias": True},
    "'a_key_of_next_year'": {"a_key_of_next_year": 1},
    "init_lora_weights": {"init_lora_weights": "pissa_niter_4"},
    "use_dora": {"use_dora": "yes"},
    "target_modules": {"target_modules": None},
    "target_modules should": {"target_modules": [1]},
    "rank_pattern should": {"rank_pattern": [1]},
    "rank_pattern.q_proj": {"rank_pattern": {"q_proj": 1e9}},
    "alpha_pattern.q_proj": {"alpha_pattern": {"q_proj": None}},
    "layers_to_transform": {"layers_to_transform": ["1"]},
    "layers_pattern": {"layers_pattern": "(a+)+"},
}


@pytest.mark.parametrize("key", BAD)
def test_refused_by_name(tmp_path: Path, key: str):
    (tmp_path / "adapter_config.json").write_text(json.dumps({**GOOD, **BAD[key]}))
    with pytest.raises(DataError) as caught:
        AdapterConfig.from_folder(tmp_path)
    assert key.split()[0] in str(caught.value) and "\n" not in caught.value.one_line()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"peft_type": "LORA"', "[" * 100_000])
def test_damaged(tmp_path: Path, text: str):
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(DataError):
        AdapterConfig.from_folder(tmp_path)
    with pytest.raises(DataError, match="holds no adapter"):
        AdapterConfig.from_folder(tmp_path / "nowhere")


def test_keys_that_change_nothing():
    more = {"lora_dropout": 0.1, "inference_mode": True, "task_type": "CAUSAL_LM", "a_key_of_next_year": None}
    assert AdapterConfig.from_peft({**GOOD, **more}) == AdapterConfig.from_peft(GOOD)


def test_which_layers():
    def targets(**how: Any) -> list[str]:
        return AdapterConfig.from_peft({**GOOD, **how}).targets(LAYERS, {"lm_head"})

    assert targets(target_modules="all-linear") == LAYERS[:-1]
    assert targets() == LAYERS[0:6:2]
    assert targets(target_modules=["proj"]) == []  # whole parts of a name only
    assert targets(target_modules=r".*1\.mlp\..*") == [LAYERS[3]]
    assert targets(layers_to_transform=2) == [LAYERS[4]]
    assert targets(target_modules="all-linear", exclude_modules=["q_proj"]) == LAYERS[1:6:2]
    assert targets(target_modules=["lm_head"]) == ["lm_head"]


def test_ranks_and_scales():
    config = AdapterConfig.from_peft(
        {**GOOD, "rank_pattern": {"up_proj": 16}, "alpha_pattern": {"layers.1.mlp.up_proj": 4}}
    )
    found = config.ranks_and_scales(LAYERS)
    assert [found[name] for name in LAYERS[:4]] == [(4, 2.0), (16, 0.5), (4, 2.0), (16, 0.25)]
    stable = AdapterConfig.from_peft({**GOOD, "use_rslora": True})
    assert stable.ranks_and_scales(["lm_head"]) == {"lm_head": (4, 4.0)}
