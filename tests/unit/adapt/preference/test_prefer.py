"""Preference optimisation as a stage: it learns what is preferred, resumes exactly, and says what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from bloomery.adapt.methods import method_lines
from bloomery.adapt.preference import PreferenceConfig, prefer
from bloomery.adapt.preference.config import PreferenceFitConfig
from bloomery.adapt.preference.encoded import encode_completion
from bloomery.adapt.tuning.lora_config import LoraConfig
from bloomery.core.errors import ConfigError, DataError
from bloomery.models.adapter import read_adapter
from bloomery.models.pretrained import load_pretrained
from bloomery.tokenizer import Tokenizer

ROWS = [{"prompt": f"Say {n}", "chosen": "yes", "rejected": "no it is not"} for n in range(30)]
FIT = PreferenceFitConfig(
    steps=12, batch_rows=8, optimizer="adamw", learning_rate=5e-3, weight_decay=0.0, device="cpu", validations=2
)


def _config(method: str, **changes) -> PreferenceConfig:
    return PreferenceConfig(method=method, weights="full", validation_fraction=0.2, fit=FIT, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["dpo", "ipo", "kto", "orpo"])
def test_every_method_learns_and_resumes_exactly(make_model, rows_file, tmp_path, method, interrupted):
    model, data, config = make_model(), rows_file(ROWS), _config(method)
    straight = prefer(model, data, config=config, workspace=tmp_path / "a")
    assert straight.kind == "model" and straight.parents == (model.id,)
    metrics = straight.metrics
    assert metrics["validation_reward_margin"] > 0 and metrics["left_out"] == 0
    assert metrics["validation_kl_nats_per_token"] > 1e-4
    assert metrics["validation_curve"][-1][2] < metrics["validation_curve"][0][2]
    interrupted(lambda: prefer(model, data, config=config, workspace=tmp_path / "b"), 5)
    resumed = prefer(model, data, config=config, workspace=tmp_path / "b")
    assert resumed.metrics["resumed"] and resumed.id == straight.id
    assert prefer(model, data, config=config, workspace=tmp_path / "b").id == resumed.id  # not trained again


def test_an_adapter_is_one_of_peft_s(make_model, rows_file, tmp_path):
    model = make_model()
    config = PreferenceConfig(lora=LoraConfig(r=2), fit=FIT)
    made = prefer(model, rows_file(ROWS), config=config, workspace=tmp_path)
    assert made.kind == "adapter" and made.metrics["trained_parameters"] < made.metrics["parameters"]
    assert json.loads((made.path / "adapter_config.json").read_text())["peft_type"] == "LORA"
    assert read_adapter(made.path, load_pretrained(model.path), "tuned").layers


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_the_divergence_from_the_model_that_was_is_told(make_model, rows_file, tmp_path, method):
    """As the run goes, and at its end; of answers that are learnt from where none are held out. Nothing learnt is no
    divergence, and the same figure comes of both models' logits."""
    model, data = make_model(), rows_file(ROWS[:12])
    told = prefer(model, data, config=replace(_config(method), validation_fraction=0.0), workspace=tmp_path)
    assert told.metrics["kl_nats_per_token"] > 1e-4
    assert any("KL from the model it was" in line for line in method_lines(told.metrics))
    still = replace(_config(method), fit=replace(FIT, learning_rate=1e-12, steps=6))
    made = prefer(model, data, config=still, workspace=tmp_path)
    assert made.metrics["validation_kl_nats_per_token"] == pytest.approx(0.0, abs=1e-6)
    asked = [path.read_text() for path in sorted(tmp_path.rglob("events.jsonl"))]
    assert any(text.count('"validation_kl_nats_per_token"') >= 2 for text in asked)
    if method == "kto":
        return
    tuned, base = (load_pretrained(one.path, dtype=torch.float32) for one in (told, model))
    tokenizer, total, tokens = Tokenizer.load(model.path), 0.0, 0
    for row in ROWS[:12]:
        one = encode_completion(tokenizer, row["prompt"], row["chosen"])
        ids = torch.tensor([[*one.prompt, *one.completion]])
        with torch.no_grad():
            mine, its = (each(ids)[0, len(one.prompt) - 1 : -1].log_softmax(-1) for each in (tuned, base))
        total += float(F.kl_div(its, mine, reduction="sum", log_target=True))
        tokens += len(one.completion)
    assert told.metrics["kl_nats_per_token"] == pytest.approx(total / tokens, rel=1e-3)


def test_what_is_too_long_is_left_out_and_said(make_model, rows_file, tmp_path):
    rows = [*ROWS, {"prompt": "Say " * 60, "chosen": "a", "rejected": "b"}]
    made = prefer(make_model(), rows_file(rows), config=_config("dpo"), workspace=tmp_path)
    assert made.metrics["left_out"] == 1
    with pytest.raises(DataError, match="longer"):
        prefer(make_model(), rows_file(rows[-1:]), config=_config("dpo"), workspace=tmp_path)


def test_mistakes(make_model, rows_file, tmp_path):
    with pytest.raises(DataError, match="no file"):
        prefer(make_model(), tmp_path / "none.jsonl", workspace=tmp_path)
    with pytest.raises(ConfigError, match="beta"):
        prefer(make_model(), rows_file(ROWS), config=_config("dpo", beta=0.0), workspace=tmp_path)
