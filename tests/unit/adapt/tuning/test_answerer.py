"""Tuned models as answerers: what was learnt is answered, with what it cost."""

from __future__ import annotations

import random
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bloomery.adapt.tuning.answerer import TunedClassifier, TunedWriter, open_tuned, tune
from bloomery.adapt.tuning.answerer import asked as asked_of
from bloomery.adapt.tuning.config import AdaptConfig, TuningFitConfig
from bloomery.adapt.tuning.lora_config import LoraConfig
from bloomery.core.errors import DataError
from bloomery.evaluate.sample import Sample
from bloomery.models.encoder import Encoder
from bloomery.models.encoder_config import EncoderConfig
from bloomery.tokenizer import Tokenizer
from bloomery.training.publishing import save_model

make_tiny_model = runpy.run_path(str(Path(__file__).parents[3] / "tiny_model.py"))["make_tiny_model"]
FIT = TuningFitConfig(steps=40, batch_rows=8, device="cpu", learning_rate=1e-2, validations=2)
CONFIG = AdaptConfig(fit=FIT, lora=LoraConfig(r=8), context_length=64, samples=0)
METALS = ("iron", "ore")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def encoder(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "encoder"
    tokenizer = Tokenizer.load(base)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    biases = {"attention_bias": True, "mlp_bias": True, "type_vocab_size": 2}
    ids = {"pad_token_id": 0, "vocab_size": tokenizer.vocab_size, "max_position_embeddings": 64}
    save_model(Encoder(EncoderConfig(model_type="bert", head="masked", **sizes, **biases, **ids)), folder)
    tokenizer.save(folder)
    return folder


def _samples(count: int, seed: int, **more: object) -> list[Sample]:
    rng = random.Random(seed)
    made = []
    for number in range(count):
        word = rng.choice(METALS)
        made.append(Sample(id=f"{seed}-{number}", input=f"{word} {rng.randint(0, 99)}", targets=(word,), **more))  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize(
    ("method", "which"), [("lora", "base"), ("full", "base"), ("lora", "encoder"), ("full", "encoder")]
)
def test_labels(tmp_path: Path, base: Path, encoder: Path, method: str, which: str):
    config = replace(CONFIG, method=method)
    base = encoder if which == "encoder" else base
    given = _samples(60, 0), _samples(20, 1)
    made = tune(base, *given, labels=METALS, config=config, workspace=tmp_path / "home")
    assert isinstance(made, TunedClassifier)
    test = _samples(20, 2)
    answers = [made.answer(one) for one in test]
    assert sum(one.text == sample.targets[0] for one, sample in zip(answers, test, strict=True)) >= 18
    first = answers[0]
    assert first.confidence == max(first.details["probabilities"].values()) > 0.5
    assert sum(first.details["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert made.training.labels == 80 and made.training.seconds > 0
    again = open_tuned(made.artifact, workspace=tmp_path / "home")
    assert again.answer(test[0]).details == first.details
    assert tune(base, *given, labels=METALS, config=config, workspace=tmp_path / "home").artifact.id == made.artifact.id
    with pytest.raises(DataError, match="no label"):
        tune(base, test, test, labels=("gold", "ore"), config=config, workspace=tmp_path / "home")


def test_words(tmp_path: Path, base: Path):
    """What was learnt is written: within the choices, and without any; the same by what is opened again."""
    config = replace(CONFIG, fit=replace(FIT, steps=80))
    how = {"instruction": "Name it.", "config": config, "workspace": tmp_path / "home"}
    made = tune(base, _samples(60, 0, choices=METALS), _samples(20, 1, choices=METALS), minutes=None, **how)  # type: ignore[arg-type]
    assert isinstance(made, TunedWriter)
    test = _samples(20, 2, choices=METALS)
    answers = [made.answer(one) for one in test]
    assert {one.text for one in answers} == set(METALS)
    assert sum(one.text == sample.targets[0] for one, sample in zip(answers, test, strict=True)) >= 18
    first, asked = answers[0], asked_of(test[0], "Name it.")
    assert [call.messages for call in first.calls] == [asked] and asked[0]["content"].startswith("Name it.\n\n")
    assert first.prompt_tokens and first.completion_tokens and first.seconds > 0 and not first.error
    assert made.training.labels == 80 and made.training.seconds > 0
    metrics = made.artifact.metrics
    assert metrics["validation_nats_per_token"] < 0.5 * metrics["validation_nats_per_token_before"]
    bound = [replace(one, choices=()) for one in test[:6]]  # asked otherwise than was learnt
    assert all(made.answer(one).completion_tokens for one in bound)
    again = open_tuned(made.artifact, instruction="Name it.", workspace=tmp_path / "home")
    assert [again.answer(one).text for one in test[:6]] == [one.text for one in answers[:6]]
    again.close()
    long = made.answer(replace(test[0], input="ore " * 5000))
    assert not long.text and "context" in long.error  # of this question alone: the others are still answered
    assert made.answer(test[0]).text == first.text
    made.close()
    with pytest.raises(DataError, match="no target"):
        tune(base, [Sample(id="a", input="b")], [], config=CONFIG, workspace=tmp_path / "home")
