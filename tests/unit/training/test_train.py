"""Every objective on text as its user would train it: a corpus in, a folder out that others read, resumed exactly."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
import torch

from bloomery.core.artifact import Artifact
from bloomery.core.errors import BloomeryError, ConfigError, DataError
from bloomery.corpus import CurateConfig, curate
from bloomery.tokenizer import Tokenizer, TokenizerConfig
from bloomery.training import TrainConfig, prepare, train
from bloomery.training.building import NetConfig
from bloomery.training.fit import FitConfig
from bloomery.training.loop import Loop

NET = NetConfig(hidden_size=32, num_hidden_layers=1)
FIT = FitConfig(steps=12, batch_rows=8, precision="float32", device="cpu", validations=2)
SMALL = TokenizerConfig(vocab_size=500)
OBJECTIVES = {
    "causal": "model",
    "middle": "model",
    "masked": "encoder",
    "spans": "seq2seq",
    "sequence": "seq2seq",
    "classes": "encoder",
    "values": "encoder",
    "tags": "encoder",
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Sentences of colours and things: the target is the text backwards, the label whether red is in it."""
    folder = tmp_path_factory.mktemp("train")
    rng = random.Random(0)
    colours, things = ["red", "green", "blue", "grey"], ["cat", "dog", "cow", "hen", "fox"]
    with (folder / "data.jsonl").open("w") as file:
        for number in range(400):
            words = [rng.choice(colours if i % 2 == 0 else things) for i in range(rng.choice([4, 6, 8]))]
            row = {
                "text": " ".join(words) + f" {number}",
                "target": " ".join(reversed(words)),
                "label": "with" if "red" in words else "without",
                "value": words.count("red") / 2,
                "tags": ["colour" if w in colours else "thing" for w in words] + ["number"],
            }
            file.write(json.dumps(row) + "\n")
    config = CurateConfig(
        sources=(str(folder / "data.jsonl"),),
        metadata_fields=("target", "label", "value", "tags"),
        validation_fraction=0.1,
        decontaminate_words=0,
    )
    return curate(config=config, workspace=folder / "home")


def _train(corpus: Artifact, home, objective: str, **changes) -> Artifact:
    fit = replace(FIT, **changes.pop("fit", {}))
    config = TrainConfig(objective=objective, context_length=32, net=NET, fit=fit, **changes)  # type: ignore[arg-type]
    return train(corpus, config=config, tokenizer_config=SMALL, workspace=home)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains_publishes_and_resumes_exactly(corpus, tmp_path, objective, monkeypatch):
    straight = _train(corpus, tmp_path / "a", objective)
    assert straight.kind == OBJECTIVES[objective] and straight.metrics["steps"] == 12
    assert (straight.path / "config.json").is_file() and (straight.path / "tokenizer.json").is_file()
    curve = straight.metrics["validation_curve"]
    assert len(curve) == 3 and all(torch.isfinite(torch.tensor(value)) for _, _, value in curve)
    step = Loop._step

    def interrupted(self: Loop) -> None:
        step(self)
        if self.progress.step == 7:
            self._interrupted.set()

    monkeypatch.setattr(Loop, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _train(corpus, tmp_path / "b", objective)
    monkeypatch.setattr(Loop, "_step", step)
    resumed = _train(corpus, tmp_path / "b", objective)
    assert resumed.metrics["resumed"] and resumed.id == straight.id
    assert _train(corpus, tmp_path / "b", objective).id == resumed.id  # and it is not trained again


@pytest.mark.parametrize("family", ["modernbert", "bert", "roberta", "qwen3", "mean", "conv"])
def test_every_family_learns_classes(corpus, tmp_path, family):
    made = train(
        corpus,
        config=TrainConfig(
            objective="classes",
            context_length=32,
            net=NetConfig(family=family, hidden_size=32) if family in ("mean", "conv") else replace(NET, family=family),
            fit=replace(FIT, steps=120, batch_rows=32, optimizer="adamw", learning_rate=3e-3),
        ),
        tokenizer_config=SMALL,
        workspace=tmp_path,
    )
    assert made.metrics["labels"] == ["with", "without"]
    assert json.loads((made.path / "labels.json").read_text()) == ["with", "without"]
    # A word decides: about .63 of the texts have it, so guessing reaches .63.
    assert made.metrics["validation_accuracy"] > 0.85


@pytest.mark.parametrize("family", ["t5", "gru", "lstm"])
def test_every_family_learns_sequences(corpus, tmp_path, family):
    made = train(
        corpus,
        config=TrainConfig(
            objective="sequence",
            context_length=32,
            net=replace(NET, family=family, hidden_size=64),
            fit=replace(FIT, steps=220, batch_rows=32, optimizer="adamw", learning_rate=5e-3, max_norm=1.0),
        ),
        tokenizer_config=SMALL,
        workspace=tmp_path,
    )
    # Colours and things at random: a guesser who knows the order of kinds is right a quarter of the time, and nobody
    # is right twice as often without having read the source.
    assert made.metrics["validation_accuracy"] > 0.5


@pytest.mark.parametrize("family", ["gru", "lstm"])
def test_targets_with_a_tokenizer_of_their_own(corpus, tmp_path, family):
    import bloomery as bl

    config = TrainConfig(
        objective="sequence",
        context_length=32,
        net=replace(NET, family=family, hidden_size=64),
        fit=replace(FIT, steps=150, batch_rows=32, optimizer="adamw", learning_rate=5e-3, max_norm=1.0),
        target_vocab_size=280,
    )
    made = train(corpus, config=config, tokenizer_config=SMALL, workspace=tmp_path)
    model = bl.load(made.path, device="cpu")
    assert model.model.config.target_vocab_size == model.target_tokenizer.vocab_size == 280
    assert model.model.config.source_vocab_size == model.tokenizer.vocab_size > 280
    assert made.metrics["validation_accuracy"] > 0.6
    found = model.translate("red cat blue dog 7", max_new_tokens=8)[0].text.split()
    assert set(found) <= {"red", "green", "blue", "grey", "cat", "dog", "cow", "hen", "fox"}
    assert train(corpus, config=config, tokenizer_config=SMALL, workspace=tmp_path).id == made.id
    further = replace(config, target_vocab_size=0, fit=replace(FIT, steps=2))
    tuned = train(corpus, config=further, start=made, workspace=tmp_path)
    assert bl.load(tuned.path, device="cpu").target_tokenizer.vocab_size == 280
    with pytest.raises(ConfigError, match="target_vocab_size"):
        train(corpus, config=replace(config, net=NET), tokenizer_config=SMALL, workspace=tmp_path)


def test_blanks_are_filled_and_the_net_is_tuned_further(corpus, tmp_path):
    import bloomery as bl

    masked = _train(corpus, tmp_path, "masked", fit={"steps": 150, "batch_rows": 16})
    # Four colours or five things at random, and the digits of a number: 500 tokens to guess among are 6.2 nats.
    assert masked.metrics["validation_nats_per_token"] < 3
    model = bl.load(masked.path)
    mask = model.tokenizer.token_text(model.tokenizer.mask_id)
    best = model.fill(f"red {mask} green dog")[0]
    assert best
    tuned = train(
        corpus,
        config=TrainConfig(objective="classes", context_length=32, fit=replace(FIT, steps=20)),
        start=masked,
        workspace=tmp_path,
    )
    assert masked.id in tuned.parents and tuned.kind == "encoder"
    assert {label.text for label in bl.load(tuned.path).classify("red cat")} == {"with", "without"}


def test_what_was_learnt_is_asked(corpus, tmp_path):
    import bloomery as bl

    tagged = bl.load(_train(corpus, tmp_path, "tags", fit={"steps": 60, "batch_rows": 16}).path)
    said = tagged.tag("red dog green cat")
    assert [(one.word, one.tag) for one in said] == [
        ("red", "colour"),
        ("dog", "thing"),
        ("green", "colour"),
        ("cat", "thing"),
    ]
    valued = bl.load(_train(corpus, tmp_path, "values").path)
    assert isinstance(valued.value("red dog"), float)
    with pytest.raises(BloomeryError, match="it has no classify"):
        valued.classify("red dog")


def test_what_others_read(corpus, tmp_path):
    from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

    ids = torch.tensor([[5, 300, 301, 302]])
    for objective, reader in (("masked", AutoModelForMaskedLM), ("classes", AutoModelForSequenceClassification)):
        made = _train(corpus, tmp_path, objective)
        theirs = reader.from_pretrained(made.path, dtype=torch.float32).eval()
        from bloomery.models.encoder import load_encoder

        with torch.no_grad():
            assert (theirs(ids).logits - load_encoder(made.path)(ids)).abs().max() < 1e-4
    made = _train(corpus, tmp_path, "spans")
    assert AutoModelForSeq2SeqLM.from_pretrained(made.path).config.model_type == "t5"


def test_minutes_and_epochs(corpus, tmp_path):
    timed = _train(corpus, tmp_path, "classes", fit={"steps": 0, "minutes": 0.05})
    assert timed.metrics["steps"] > 1
    epochs = _train(corpus, tmp_path, "classes", fit={"steps": 0, "epochs": 2.0})
    assert epochs.metrics["steps"] == 2 * (len(prepared_examples(corpus, tmp_path)) // 8)
    with pytest.raises(ConfigError, match="epochs"):
        _train(corpus, tmp_path, "masked", fit={"steps": 0, "epochs": 2.0})


def prepared_examples(corpus: Artifact, home):
    from bloomery.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(corpus, config=SMALL, workspace=home)
    config = TrainConfig(objective="classes", context_length=32, net=NET, fit=FIT)
    return prepare(corpus, config, tokenizer=tokenizer, workspace=home)[1].train_examples


def test_mistakes_are_told_in_one_line(corpus, tmp_path):
    with pytest.raises(DataError, match='no field "nothing"'):
        _train(corpus, tmp_path, "classes", target_field="nothing")
    with pytest.raises(ConfigError, match="cannot be trained"):
        train(
            corpus,
            config=TrainConfig(objective="masked", net=NetConfig(family="qwen3"), fit=FIT),
            tokenizer_config=SMALL,
            workspace=tmp_path,
        )
    with pytest.raises(DataError, match="is no number"):
        _train(corpus, tmp_path, "values", target_field="label")
    with pytest.raises(ConfigError, match="no meaning"):
        TrainConfig(objective="masked", target_field="label")
    causal = _train(corpus, tmp_path, "causal")
    with pytest.raises(ConfigError, match="cannot be trained"):
        train(corpus, config=TrainConfig(objective="masked", fit=FIT), start=causal, workspace=tmp_path)
    assert Tokenizer.load(causal.path).mask_id is None
