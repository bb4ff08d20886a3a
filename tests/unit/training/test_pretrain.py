"""The pre-training stage: what it makes, that it learns, and that stopping it loses nothing."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch

from bloomery.core.errors import BloomeryError, ConfigError, TrainingError
from bloomery.core.workspace import Workspace
from bloomery.models import load_pretrained
from bloomery.tokenizer import Tokenizer
from bloomery.training import causal, loop, pretrain
from bloomery.training.planning.planner import plan as make_plan
from bloomery.training.pretrain_config import plan_request


def _train(material, home, **changes):
    return pretrain(
        material.corpus,
        material.tokenizer,
        tokens=material.tokens,
        config=replace(material.small, **changes),
        workspace=home,
    )


def test_learns_and_publishes_a_hugging_face_folder(material):
    model = _train(material, material.workspace, steps=60)
    uniform = math.log2(320) / 2  # nobody who learned anything is above half of guessing among 320 tokens
    assert model.metrics["validation_bits_per_byte"] < uniform
    assert model.metrics["validation_nats_per_token"] < math.log(320) * 0.8
    assert model.parents == (material.tokens.id, material.tokenizer.id)
    assert {"config.json", "model.safetensors", "generation_config.json", "tokenizer.json"} <= {
        f["path"] for f in model.manifest["files"]
    }
    assert json.loads((model.path / "config.json").read_text())["architectures"] == ["Qwen3ForCausalLM"]
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ids = torch.tensor([[1, 5, 9, 200, 31]])
    theirs = AutoModelForCausalLM.from_pretrained(model.path).eval()
    with torch.inference_mode():
        difference = (theirs(ids).logits - load_pretrained(model.path)(ids)).abs().max()
    assert difference < 1e-4
    assert AutoTokenizer.from_pretrained(model.path).vocab_size > 0
    stored = [[s, v] for s, _, v in model.metrics["validation_curve"]]
    assert stored[-1] == [60, model.metrics["validation_bits_per_byte"]]


def test_equal_calls_give_equal_weights_and_one_run(material, tmp_path):
    first = _train(material, tmp_path / "a")
    assert _train(material, tmp_path / "a").id == first.id
    assert len(Workspace(tmp_path / "a").ledger.runs(stage="pretrain")) == 1
    assert _train(material, tmp_path / "b").id == first.id
    assert _train(material, tmp_path / "b", seed=1).id != first.id


def test_interrupted_and_resumed_is_bit_equal(material, tmp_path, monkeypatch: pytest.MonkeyPatch):
    straight = _train(material, tmp_path / "a")
    taken = []
    step = loop.Loop._step

    def interrupted(self: loop.Loop) -> None:
        step(self)
        taken.append(self.progress.step)
        if len(taken) == 5:
            self._interrupted.set()

    monkeypatch.setattr(loop.Loop, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _train(material, tmp_path / "b")
    runs = Workspace(tmp_path / "b").ledger.runs(stage="pretrain")
    assert [(r["state"], r["error"]) for r in runs] == [("failed", "interrupted")]
    (kept,) = (tmp_path / "b").glob("scratch/*/plan.json")
    plan = kept.read_bytes()
    kept.write_bytes(plan[:100])
    with pytest.raises(BloomeryError, match="is no plan") as damaged:
        _train(material, tmp_path / "b")
    assert f"remove {kept.parent}" in damaged.value.hint
    kept.write_bytes(plan)
    resumed = _train(material, tmp_path / "b")
    assert taken == list(range(1, 13))
    assert resumed.id == straight.id
    scores = resumed.metrics["plan_score"]
    assert scores["seconds"]["actual"] is None and scores["bits_per_byte"]["actual"] is not None
    assert resumed.metrics["resumed"] and resumed.manifest["failed_attempts"] == 2
    assert resumed.metrics["loss_curve"] == straight.metrics["loss_curve"]


def test_gradient_accumulation_changes_little(material, tmp_path):
    whole = _train(material, tmp_path, steps=4)
    parts = _train(material, tmp_path, steps=4, micro_rows=1)
    # The same sum in another order: float32 rounding, which Muon's normalisation can amplify.
    assert parts.metrics["validation_nats_per_token"] == pytest.approx(
        whole.metrics["validation_nats_per_token"], abs=1e-3
    )


def test_a_batch_that_cannot_be_cut(material, tmp_path):
    with pytest.raises(ConfigError, match="cannot be cut"):
        _train(material, tmp_path, micro_rows=3)


def test_non_finite_losses_stop_before_the_step(material, tmp_path, monkeypatch: pytest.MonkeyPatch):
    straight = _train(material, tmp_path / "a", checkpoint_every_steps=2)
    real, calls = causal.CausalObjective.loss, []

    def poisoned(self, arrays):
        calls.append(1)
        loss = real(self, arrays)
        return loss * float("nan") if len(calls) > 6 else loss  # the first call is the preflight's

    with monkeypatch.context() as patched:
        patched.setattr(causal.CausalObjective, "loss", poisoned)
        strict = partial(loop.LoopConfig, most_rollbacks=0)
        patched.setattr(sys.modules["bloomery.training.pretrain"], "LoopConfig", strict)
        with pytest.raises(TrainingError, match="step 6: loss nan") as caught:
            _train(material, tmp_path / "b", checkpoint_every_steps=2)
    assert "the checkpoint of step 4 is kept" in caught.value.message
    assert "learning_rate_scale" in caught.value.hint
    # The cause gone, the same call goes on from step 4 and ends as if nothing had happened.
    assert _train(material, tmp_path / "b", checkpoint_every_steps=2).id == straight.id


def test_llama_and_tied(material, tmp_path):
    model = _train(material, tmp_path, family="llama", tie_word_embeddings=True, steps=2)
    config = json.loads((model.path / "config.json").read_text())
    assert config["model_type"] == "llama" and config["tie_word_embeddings"] is True
    assert "lm_head.weight" not in dict(load_pretrained(model.path).named_parameters())


def test_embeddings_of_our_own(material, tmp_path):
    """They learn, are saved, and come back; their tables are trained like the token embedding."""
    own = {"family": "bloomery", "value_embeddings": True, "bigram_vocab_size": 512}
    model = _train(material, tmp_path, steps=30, **own)
    decoder = load_pretrained(model.path)
    assert decoder.config.model_type == "bloomery" and decoder.config.value_embedding_layers
    assert decoder.config.num_hidden_layers - 1 in decoder.config.value_embedding_layers
    assert decoder.model.embed_bigrams.table.weight.abs().max() > 0.01
    assert model.metrics["validation_nats_per_token"] < math.log(320) * 0.9


def test_fast_is_trained_resumed_to_the_bit_and_not_exported(material, tmp_path, monkeypatch: pytest.MonkeyPatch):
    own = {"fast": True, "first_batch": 0.5, "short_rows_fraction": 0.4, "final_rate": 0.1, "checkpoint_every_steps": 3}
    straight = _train(material, tmp_path / "a", **own, steps=8)
    config = load_pretrained(straight.path).config
    assert config.own_parts and config.bigram_vocab_size and config.value_embedding_layers
    assert straight.metrics["utilisation"] > 0 and straight.metrics["tokens"] < 8 * 4 * 64
    real, calls = loop.Loop.save, []

    def stop(self):
        real(self)
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop.Loop, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        _train(material, tmp_path / "b", **own, steps=8)
    monkeypatch.setattr(loop.Loop, "save", real)
    assert _train(material, tmp_path / "b", **own, steps=8).id == straight.id
    with pytest.raises(ConfigError, match=r"value embeddings .*, bigram embeddings and smeared embeddings"):
        config.check_published()


def test_bfloat16(material, tmp_path):
    model = _train(material, tmp_path, precision="bfloat16", steps=3)
    assert {p.dtype for p in load_pretrained(model.path).parameters()} == {torch.float32}


def test_unknown_device(material, tmp_path):
    with pytest.raises(BloomeryError):
        _train(material, tmp_path, device="warp-drive")


def test_a_plans_threads_are_not_left_behind(material, tmp_path):
    codec = Tokenizer.load(material.tokenizer.path)
    made = make_plan(plan_request(material.small, material.tokens, codec))
    before = torch.get_num_threads()
    given = replace(made, threads=before + 1, steps=2)
    done = pretrain(material.corpus, material.tokenizer, tokens=material.tokens, plan=given, workspace=tmp_path)
    assert done.metrics["plan"]["threads"] == before + 1 and torch.get_num_threads() == before
