"""Training on a corpus of pictures: pairs, captions and labels, published with what others need, resumed exactly."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ConfigError, DataError
from bloomery.core.workspace import Workspace
from bloomery.corpus import PicturesConfig, curate_pictures
from bloomery.tokenizer import Tokenizer, TokenizerConfig
from bloomery.tokenizer.train import learn, write_tokenizer
from bloomery.training import TrainConfig, train
from bloomery.training.augment import AugmentConfig
from bloomery.training.building import NetConfig
from bloomery.training.fit import FitConfig
from bloomery.training.loop import Loop
from bloomery.training.picture_materials import question_and_answer

PIL = pytest.importorskip("PIL.Image")
NET = NetConfig(hidden_size=32, num_hidden_layers=1, image_size=16, patch_size=4)
CONV = {"hidden_size": NetConfig().hidden_size, "num_hidden_layers": NetConfig().num_hidden_layers}
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
    if family == "conv":
        changes["net"] |= CONV
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


QUESTIONS = {"What is it?": ("face", "tree"), "Which colour?": ("deep blue", "red")}


def test_a_question_is_answered_as_it_is_typed_and_asked_by_chat(tmp_path):
    """Two pictures, two questions: memorised, then asked as text, by messages and over HTTP, text before picture."""
    from fastapi.testclient import TestClient

    import bloomery as bl
    from bloomery.server import ServeConfig, build_app

    pictures = [np.random.default_rng(n).integers(0, 256, (16, 16, 3), dtype=np.uint8) for n in range(2)]
    rows = []
    for number, picture in enumerate(pictures):
        PIL.fromarray(picture).save(tmp_path / f"{number}.png")
        rows += [{"image": f"{number}.png", "question": q, "caption": a[number]} for q, a in QUESTIONS.items()]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = PicturesConfig(
        sources=(str(tmp_path),), metadata_fields=("question",), validation_fraction=0, test_fraction=0
    )
    corpus = curate_pictures(config=config, workspace=tmp_path / "home")
    fit = {"steps": 80, "batch_rows": 4, "optimizer": "adamw", "learning_rate": 3e-3, "validations": 0}
    made = _train(corpus, tmp_path / "home", "captions", fit=fit, prompt_field="question")
    model = bl.load(made.path)
    client = TestClient(
        build_app(model, workspace=Workspace(tmp_path / "home"), config=ServeConfig(api_key="")),
        base_url="http://127.0.0.1:8000",
    )
    for number, picture in enumerate(pictures):
        data = base64.b64encode((tmp_path / f"{number}.png").read_bytes()).decode()
        shown = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        for question, answers in QUESTIONS.items():
            expected, said = " " + answers[number], {"type": "text", "text": question}
            for prompt in (question, f"<image>{question}"):
                typed = model.generate(prompt, image=picture, max_new_tokens=16, temperature=0)
                assert typed.text == expected
            for content in ([shown, said], [said, shown]):
                body = {"model": model.name, "messages": [{"role": "user", "content": content}], "temperature": 0}
                answer = client.post("/v1/chat/completions", json={**body, "max_tokens": 16}).json()
                assert answer["choices"][0]["message"]["content"] == expected
                assert answer["usage"]["prompt_tokens"] == len(typed.prompt_token_ids)


def test_the_space_before_an_answer_is_the_answers(tmp_path):
    write_tokenizer(learn(["What is it? face", "a face"] * 9, TokenizerConfig(vocab_size=300, images=True)), tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    asked, answer = question_and_answer(tokenizer, "What is it?", "face")
    assert [tokenizer.image_id, *asked] == tokenizer.encode("<image>What is it?", allow_special=True)
    assert tokenizer.decode(answer) == " face" and tokenizer.token_bytes(answer[0]) == b" face"
    # Words of a question do not become special tokens, and a caption stands at the picture itself.
    assert tokenizer.image_id not in question_and_answer(tokenizer, "<image>?", "<image>")[0]
    assert question_and_answer(tokenizer, "", "face") == ([], tokenizer.encode("face"))


def test_classes_are_learnt(corpus, tmp_path):
    fit = {"steps": 80, "batch_rows": 32, "optimizer": "adamw", "learning_rate": 3e-3}
    for family in ("vit", "conv"):
        net = {"family": family, **(CONV if family == "conv" else {})}
        made = _train(corpus, tmp_path, "classes", target_field="colour", net=net, fit=fit)
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
