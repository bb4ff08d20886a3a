"""Classifiers that are measured: by their labels, with intervals and beside each other; and what they cannot answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.core.errors import ConfigError, RequestError
from bloomery.core.likelihood import Pair
from bloomery.engine import Classifier, load
from bloomery.evaluate import EvaluateConfig, evaluate, open_subject, read_evaluation, read_records
from bloomery.evaluate.classified import ClassifierAnswers
from bloomery.tokenizer import Tokenizer, TokenizerConfig
from bloomery.tokenizer.train import learn, write_tokenizer
from bloomery.training.building import NetConfig, build
from bloomery.training.publishing import save_model

LABELS = ["red", "green", "blue"]
TEXTS = [f"some words {n}" for n in range(12)]


def classifier(folder: Path, seed: int = 0, family: str = "qwen3") -> Path:
    folder.mkdir()
    write_tokenizer(learn(["some words"] * 5, TokenizerConfig(vocab_size=300)), folder)
    torch.manual_seed(seed)
    net = NetConfig(family=family, hidden_size=32, num_hidden_layers=1)
    model = build("classes", net, Tokenizer.load(folder), context_length=16, num_labels=3).eval()
    save_model(model, folder, labels=LABELS)
    if family != "modernbert":
        (folder / "labels.json").write_text(json.dumps(LABELS))
    return folder


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def said_by(folder: Path) -> list[str]:
    model = load(folder, device="cpu")
    return [model.classify(text, top=1)[0].text for text in TEXTS]  # type: ignore[union-attr]


def test_labels_and_choices_are_scored_by_the_label_that_is_given(tmp_path: Path):
    folder = classifier(tmp_path / "one")
    truth = [LABELS[n % 3] for n in range(len(TEXTS))]
    right = [a == b for a, b in zip(said_by(folder), truth, strict=True)]
    rows = list(zip(TEXTS, truth, strict=True))
    free = lines(tmp_path / "free.jsonl", [{"text": text, "label": label} for text, label in rows])
    chosen = lines(
        tmp_path / "chosen.jsonl", [{"query": t, "choices": LABELS, "gold": LABELS.index(a)} for t, a in rows]
    )
    made = evaluate(folder, [free, chosen], workspace=tmp_path / "home")
    results = read_evaluation(made)["tasks"]
    for result, metric in zip(results, ("exact_match", "accuracy"), strict=True):
        assert list(result["metrics"]) == [metric]
        figure = result["metrics"][metric]
        assert figure["value"] == pytest.approx(sum(right) / len(right)) and figure["low"] < figure["value"]
        assert [record.answer for record in read_records(made, result["task"])] == said_by(folder)
    other = classifier(tmp_path / "two", seed=1)
    beside = evaluate(other, [free, chosen], against=made, workspace=tmp_path / "home")
    compared = read_evaluation(beside)["against"]["comparisons"]
    same = sum(a == b for a, b in zip(said_by(folder), said_by(other), strict=True)) / len(TEXTS)
    assert [one["same_answer"] for one in compared] == pytest.approx([same, same])


def test_an_encoder_with_a_head_is_one_too(tmp_path: Path):
    folder = classifier(tmp_path / "one", family="modernbert")
    data = lines(tmp_path / "free.jsonl", [{"text": text, "label": "red"} for text in TEXTS])
    made = evaluate(folder, [data], workspace=tmp_path / "home")
    assert [record.answer for record in read_records(made, "free")] == said_by(folder)


def test_what_a_classifier_cannot_answer(tmp_path: Path):
    folder = classifier(tmp_path / "one")
    how: dict[str, Any] = {"workspace": tmp_path / "home"}
    other = lines(tmp_path / "other.jsonl", [{"query": "a", "choices": ["red", "pink"], "gold": 0}])
    free = lines(tmp_path / "free.jsonl", [{"text": "a", "label": "pink"}])
    with pytest.raises(ConfigError, match=r"labels are red, green, blue: .*other\.jsonl:1 has the choice 'pink'"):
        evaluate(folder, [other], **how)
    with pytest.raises(ConfigError, match="free asks for something else"):
        evaluate(folder, [free], **how)
    with pytest.raises(ConfigError, match="asks for something else"):
        evaluate(folder, [lines(tmp_path / "texts.jsonl", [{"text": "a"}])], **how)
    asked = ClassifierAnswers(load(folder, device="cpu"), LABELS)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="'pink' is no label"):
        list(asked.likelihoods([Pair("a", " pink")]))
    with pytest.raises(RequestError, match="no likelihood of texts"):
        asked.rolling(["a"])


def test_only_who_asks_for_classifiers_gets_them(tmp_path: Path, made: Any):
    folder = classifier(tmp_path / "one")
    with pytest.raises(ConfigError, match="writes no text"):
        open_subject(folder, workspace=made.workspace)
    opened = open_subject(folder, workspace=made.workspace, classifiers=True)
    assert opened.labels == tuple(LABELS) and isinstance(opened.subject.chat.model, Classifier)  # type: ignore[union-attr]
    assert not open_subject(made.model, workspace=made.workspace, classifiers=True).labels
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "labels.json").write_text(json.dumps(LABELS))
    with pytest.raises(ConfigError, match="an adapter that gives labels") as caught:
        open_subject(adapter, workspace=made.workspace, classifiers=True)
    assert "bloomery adapt merge" in caught.value.hint


def test_examples_before_a_text_are_refused(tmp_path: Path):
    folder = classifier(tmp_path / "one")
    rows = [{"text": text, "label": "red"} for text in TEXTS]
    lines(tmp_path / "rows.jsonl", rows)
    (tmp_path / "shots.toml").write_text(
        '[data]\nfiles = ["rows.jsonl"]\nexample_files = ["rows.jsonl"]\n'
        'kind = "generation"\n[columns]\nquestion = "text"\nanswer = "label"\n'.replace('kind = "generation"\n', "")
    )
    with pytest.raises(ConfigError, match="learns nothing from examples"):
        evaluate(folder, [tmp_path / "shots.toml"], config=EvaluateConfig(few_shot=2), workspace=tmp_path / "home")
