"""Training on a corpus of pictures: pairs, captions and labels, published with what others need, resumed exactly."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ConfigError, DataError
from bloomery.corpus import PicturesConfig, curate_pictures
from bloomery.tokenizer import TokenizerConfig
from bloomery.training import TrainConfig, train
from bloomery.training.augment import AugmentConfig
from bloomery.training.building import NetConfig
from bloomery.training.fit import FitConfig
from bloomery.training.loop import Loop

PIL = pytest.importorskip("PIL.Image")
NET = NetConfig(hidden_size=32, num_hidden_layers=1, image_size=16, patch_size=4)
FIT = FitConfig(steps=8, batch_rows=16, precision="float32", device="cpu", validations=1)
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 40, 220), "white": (250, 250, 250)}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Artifact:
    """Squares of four colours in four corners, with noise."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(240):
        name, place = list(COLOURS)[number % 4], number // 4 % 4
        picture = rng.integers(90, 130, (16, 16, 3), dtype=np.uint8)
        top, left = 8 * (place // 2), 8 * (place % 2)
        picture[top : top + 8, left : left + 8] = COLOURS[name]
        PIL.fromarray(picture).save(folder / f"{number}.png")
        where = ("top" if top == 0 else "bottom") + " " + ("left" if left == 0 else "right")
        row = {"image": f"{number}.png", "caption": f"{name} {where}", "colour": name, "size": place, "ask": "what?"}
        rows.append(row)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fields = ("colour", "size", "ask")
    config = PicturesConfig(sources=(str(folder),), metadata_fields=fields, validation_fraction=0.15)
    return curate_pictures(config=config, workspace=folder / "home")


def _train(corpus: Artifact, home, objective: str, **changes) -> Artifact:
    fit = replace(FIT, **changes.pop("fit", {}))
    net = replace(NET, **changes.pop("net", {}))
    config = TrainConfig(objective=objective, context_length=16, net=net, fit=fit, **changes)  # type: ignore[arg-type]
    return train(corpus, config=config, tokenizer_config=TokenizerConfig(vocab_size=400), workspace=home)


@pytest.mark.parametrize(
    ("objective", "family", "kind"),
    [
        ("contrastive", "clip", "image-text"),
        ("contrastive", "siglip", "image-text"),
        ("captions", "llava", "model"),
        ("classes", "vit", "image-encoder"),
        ("classes", "conv", "classifier"),
        ("values", "conv", "classifier"),
    ],
)
def test_every_family_trains_publishes_and_resumes_exactly(corpus, tmp_path, objective, family, kind, monkeypatch):
    changes = {
        "net": {"family": family},
        "augment": AugmentConfig(least_area=0.6, mirror=True, shift=1, light=0.2),
        "target_field": {"classes": "colour", "values": "size"}.get(objective, ""),
        "contrastive": "sigmoid" if family == "siglip" else "softmax",
    }
    straight = _train(corpus, tmp_path / "a", objective, **changes)
    assert straight.kind == kind
    step = Loop._step

    def interrupted(self: Loop) -> None:
        step(self)
        if self.progress.step == 5:
            self._interrupted.set()

    monkeypatch.setattr(Loop, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _train(corpus, tmp_path / "b", objective, **changes)
    monkeypatch.setattr(Loop, "_step", step)
    assert _train(corpus, tmp_path / "b", objective, **changes).id == straight.id
    assert (straight.path / "preprocessor_config.json").is_file()
    assert (straight.path / "tokenizer.json").is_file() == (objective in ("contrastive", "captions"))


def test_pairs_are_learnt_and_the_model_names_what_it_sees(corpus, tmp_path):
    import bloomery as bl

    made = _train(corpus, tmp_path, "contrastive", fit={"steps": 150, "batch_rows": 64})
    assert made.metrics["validation_picture_recall_in_batch"] > 0.7
    model = bl.load(made.path)
    picture = np.full((16, 16, 3), 110, dtype=np.uint8)
    picture[:8, :8] = COLOURS["blue"]
    best = model.classify(picture, list(COLOURS), templates=("{} top left", "{} bottom right"))[0]
    assert best.text == "blue"


def test_captions_are_learnt_and_written(corpus, tmp_path):
    import bloomery as bl

    fit = {"steps": 200, "batch_rows": 32, "optimizer": "adamw", "learning_rate": 3e-3}
    made = _train(corpus, tmp_path, "captions", fit=fit)
    blind = _train(corpus, tmp_path, "captions", fit=fit, blind=True)
    assert made.metrics["validation_nats_per_token"] < 0.7 * blind.metrics["validation_nats_per_token"]
    model = bl.load(made.path)
    picture = np.full((16, 16, 3), 110, dtype=np.uint8)
    picture[8:, :8] = COLOURS["red"]
    ids = [model.tokenizer.bos_id, model.tokenizer.image_id]
    assert model.generate(ids, image=picture, max_new_tokens=8, temperature=0).text.startswith("red")


def test_answers_to_questions(corpus, tmp_path):
    made = _train(corpus, tmp_path, "captions", prompt_field="ask")
    assert made.metrics["objective"] == "captions"
    with pytest.raises(DataError, match='no field "nothing"'):
        _train(corpus, tmp_path, "captions", prompt_field="nothing")


def test_classes_are_learnt(corpus, tmp_path):
    fit = {"steps": 80, "batch_rows": 32, "optimizer": "adamw", "learning_rate": 3e-3}
    for family in ("vit", "conv"):
        made = _train(corpus, tmp_path, "classes", target_field="colour", net={"family": family}, fit=fit)
        assert made.metrics["labels"] == sorted(COLOURS) and made.metrics["validation_accuracy"] > 0.8
    tuned = train(
        corpus,
        config=TrainConfig(objective="values", target_field="size", net=NET, fit=FIT),
        start=_train(corpus, tmp_path, "classes", target_field="colour", net={"family": "vit"}, fit=fit),
        workspace=tmp_path,
    )
    assert torch.isfinite(torch.tensor(tuned.metrics["validation_mean_squared_error"]))


def test_texts_and_pictures_are_not_mixed_up(corpus, tmp_path, material):
    with pytest.raises(ConfigError, match="corpus of pictures"):
        _train(corpus, tmp_path, "masked")
    with pytest.raises(ConfigError, match="corpus of texts"):
        _train(material.corpus, tmp_path, "contrastive")
    with pytest.raises(DataError, match="no number"):
        _train(corpus, tmp_path, "values", target_field="colour")
