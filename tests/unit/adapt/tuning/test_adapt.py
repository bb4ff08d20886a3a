"""The stage: every method trains, publishes what PEFT and the engine read, and goes on exactly where it was stopped."""

from __future__ import annotations

import json
import random
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import bloomery as bl
from bloomery.adapt.tuning.adapt import adapt, adapter_folder, base_of, paths_of
from bloomery.adapt.tuning.config import AdaptConfig, TuningFitConfig
from bloomery.adapt.tuning.lora_config import LoraConfig
from bloomery.core.artifact import Artifact
from bloomery.core.errors import BloomeryError, ConfigError, DataError
from bloomery.core.workspace import Workspace
from bloomery.engine import load_language_model
from bloomery.training.loop import Loop

make_tiny_model = runpy.run_path(str(Path(__file__).parents[3] / "tiny_model.py"))["make_tiny_model"]
FIT = TuningFitConfig(steps=10, batch_rows=6, device="cpu", validations=2, learning_rate=3e-3)
CONFIG = AdaptConfig(fit=FIT, lora=LoraConfig(r=4, lora_alpha=8), context_length=64, samples=2, sample_tokens=6)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("data") / "talks.jsonl"
    rows = []
    for _ in range(60):
        word = rng.choice(["iron", "ore", "coal"]) + str(rng.randint(0, 30))
        rows.append({"instruction": f"Say {word}", "output": f"{word} {word}"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("data") / "labels.jsonl"
    rows = [{"text": f"{rng.choice(['iron', 'ore'])} {n}", "label": ""} for n in range(80)]
    path.write_text("".join(json.dumps({**row, "label": row["text"].split()[0]}) + "\n" for row in rows))
    return path


def _interrupt(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    step = Loop._step

    def interrupted(self: Loop) -> None:
        step(self)
        if self.progress.step == at:
            self._interrupted.set()

    monkeypatch.setattr(Loop, "_step", interrupted)


def _files(artifact: Artifact) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in artifact.path.iterdir()
        if path.suffix == ".safetensors" or path.name == "samples.json"
    }


@pytest.mark.parametrize("method", ["lora", "qlora", "dora", "full"])
def test_methods_train_and_go_on_exactly(tmp_path: Path, base: Path, talks: Path, method: str, monkeypatch: Any):
    config = replace(CONFIG, method=method)
    straight = adapt(base, talks, config=config, workspace=tmp_path / "a")
    assert straight.kind == ("model" if method == "full" else "adapter")
    metrics = straight.metrics
    assert metrics["steps"] == 10 and metrics["validation_nats_per_token"] < metrics["validation_nats_per_token_before"]
    assert metrics["trained_parameters"] <= metrics["parameters"] and metrics["peak_memory_bytes"] > 0
    assert straight.manifest["parents"] and straight.manifest["energy_joules"]
    if method == "qlora":
        assert metrics["base_linear_bytes"] < metrics["base_linear_bytes_plain"] / 6
    again = adapt(base, talks, config=config, workspace=tmp_path / "a")
    assert again.id == straight.id
    with monkeypatch.context() as patched:
        _interrupt(patched, 6)
        with pytest.raises(KeyboardInterrupt):
            adapt(base, talks, config=config, workspace=tmp_path / "b")
    resumed = adapt(base, talks, config=config, workspace=tmp_path / "b")
    assert resumed.metrics["resumed"] and _files(resumed) == _files(straight)
    samples = json.loads((straight.path / "samples.json").read_text())
    assert len(samples) == 2 and {"prompt", "expected", "before", "after"} == set(samples[0])


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # peft asks transformers so
def test_peft_and_the_engine_read_it(tmp_path: Path, base: Path, talks: Path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    made = adapt(base, talks, config=CONFIG, workspace=tmp_path / "home")
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(plain, made.path).eval()
    ids = torch.arange(5, 25)[None]
    model = load_language_model(base, device="cpu")
    adapted = model.adapted(model.load_adapter(made.path).name)
    with torch.no_grad():
        expected = theirs(ids).logits
    torch.testing.assert_close(torch.as_tensor(adapted.logits(ids)), expected, atol=1e-5, rtol=1e-5)


def test_an_adapter_is_trained_further(tmp_path: Path, base: Path, talks: Path):
    """It begins where the first one ended, with its rank, from an artifact or a folder; both are parents."""
    home = tmp_path / "home"
    first = adapt(base, talks, config=CONFIG, workspace=home)
    other = replace(CONFIG, lora=LoraConfig(r=7))
    again = adapt(base, talks, adapter=first, config=other, workspace=home)
    assert adapter_folder("latest", Workspace(home))[1] == again
    assert base_of("latest", Workspace(home)).id == first.manifest["parents"][0]
    ended = first.metrics["validation_nats_per_token"]
    assert again.metrics["validation_nats_per_token_before"] == pytest.approx(ended, abs=1e-5)
    assert again.metrics["trained_parameters"] == first.metrics["trained_parameters"]
    assert again.manifest["parents"] == [*first.manifest["parents"], first.id]
    with pytest.raises(ConfigError, match="without an adapter"):
        adapt(base, talks, adapter=first, method="full", config=CONFIG, workspace=home)
    with pytest.raises(BloomeryError, match="is an adapter, which is computed with a model"):
        bl.load(first)


def test_packed_rows(tmp_path: Path, base: Path, talks: Path):
    made = adapt(base, talks, config=replace(CONFIG, packing=True, recompute=True), workspace=tmp_path / "home")
    assert made.metrics["rows"] < 40
    assert made.metrics["validation_nats_per_token"] < made.metrics["validation_nats_per_token_before"]


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_bfloat16(tmp_path: Path, base: Path, talks: Path, method: str):
    """A frozen base lies in bfloat16, whatever is trained in float32."""
    config = replace(CONFIG, method=method, fit=replace(FIT, precision="bfloat16"), samples=1)
    made = adapt(base, talks, config=config, workspace=tmp_path / "home")
    assert made.metrics["validation_nats_per_token"] < made.metrics["validation_nats_per_token_before"]
    if method == "lora":
        plain = adapt(base, talks, config=CONFIG, workspace=tmp_path / "home")
        assert made.metrics["model_bytes"] < 0.7 * plain.metrics["model_bytes"]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_labels(tmp_path: Path, base: Path, labelled: Path, method: str):
    fit = replace(FIT, steps=30, learning_rate=1e-2)
    made = adapt(base, labelled, method=method, config=replace(CONFIG, fit=fit), workspace=tmp_path / "home")
    assert made.kind == ("adapter" if method == "lora" else "classifier")
    assert made.metrics["labels"] == ["iron", "ore"] and made.metrics["validation_accuracy"] > 0.8


def test_the_package_is_the_stage(tmp_path: Path, base: Path, talks: Path):
    config = replace(CONFIG, fit=replace(FIT, steps=0, epochs=1.0), samples=0)
    made = bl.adapt(base, [talks], validation=talks, epochs=0.5, config=config, workspace=tmp_path / "home")
    assert made.metrics["steps"] == 4
    timed = bl.adapt(base, talks, minutes=0.005, config=config, workspace=tmp_path / "home")
    assert timed.metrics["steps"] >= 1
    assert paths_of("a") == [Path("a")] and paths_of(["a", Path("b")]) == [Path("a"), Path("b")]


def test_mistakes(tmp_path: Path, base: Path, talks: Path, labelled: Path):
    where: dict[str, Any] = {"config": CONFIG, "workspace": tmp_path / "home"}
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text('{"text": "a", "label": "x"}\n{"text": "b"}\n')
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"prompt": "furnace " * 200, "completion": "no"}) + "\n")
    cases: list[tuple[Any, dict[str, Any], type[BloomeryError], str]] = [
        ([], {}, DataError, "no data"),
        (tmp_path / "none.jsonl", {}, DataError, "there is no file"),
        (mixed, {}, DataError, "line 2 has no label"),
        (long, {}, DataError, "nothing is left to learn"),
        (talks, {"minutes": 1, "epochs": 1}, ConfigError, "both given"),
        (talks, {"method": "lorra"}, ConfigError, "cannot be 'lorra'"),
        (labelled, {"config": replace(CONFIG, method="qlora", base="int4")}, ConfigError, "do not divide"),
    ]
    for data, more, kind, message in cases[:-1]:
        with pytest.raises(kind, match=message) as caught:
            adapt(base, data, **{**where, **more})
        assert "\n" not in caught.value.one_line()
    with pytest.raises(BloomeryError):
        adapt(tmp_path / "nothing", talks, **where)
