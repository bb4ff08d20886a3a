"""Distillation as a stage: the student comes nearer, candidates do as well as the teacher, texts have their cost."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace

import pytest

from bloomery.adapt.distillation import DistilConfig, distil
from bloomery.adapt.distillation.config import DistilFitConfig
from bloomery.adapt.starting import split
from bloomery.core.errors import DataError
from bloomery.tokenizer import Tokenizer

ROWS = [{"prompt": f"Say {n}", "completion": "yes it is" if n % 2 else "no, not"} for n in range(24)]
FIT = DistilFitConfig(
    steps=12, batch_rows=8, optimizer="adamw", learning_rate=1e-2, weight_decay=0.0, device="cpu", validations=2
)
CONFIG = DistilConfig(validation_fraction=0.25, fit=FIT)


def test_the_student_comes_nearer_and_resumes_exactly(make_model, rows_file, tmp_path, interrupted):
    student, teacher, data = make_model(), make_model(1, hidden=24), rows_file(ROWS)
    made = distil(student, teacher, data, config=CONFIG, workspace=tmp_path / "a")
    assert made.parents == (student.id, teacher.id) and made.kind == "model"
    interrupted(lambda: distil(student, teacher, data, config=CONFIG, workspace=tmp_path / "b"), 5)
    resumed = distil(student, teacher, data, config=CONFIG, workspace=tmp_path / "b")
    assert resumed.metrics["resumed"]
    assert (resumed.path / "model.safetensors").read_bytes() == (made.path / "model.safetensors").read_bytes()
    whole = replace(CONFIG, candidates=300)  # as many as there are tokens: the same figures without the teacher
    kept = distil(student, teacher, data, config=whole, workspace=tmp_path / "a")
    few = distil(student, teacher, data, config=replace(CONFIG, candidates=20), workspace=tmp_path / "a")
    for name in ("validation_divergence", "validation_nats_per_token"):
        assert kept.metrics[name] == pytest.approx(made.metrics[name], rel=1e-3)
    assert few.metrics["validation_divergence"] <= made.metrics["validation_divergence"] * 1.05
    untouched = distil(
        student, teacher, data, config=replace(CONFIG, fit=replace(FIT, learning_rate=1e-12)), workspace=tmp_path / "a"
    )
    assert made.metrics["validation_divergence"] < 0.8 * untouched.metrics["validation_divergence"]


def test_texts_that_the_teacher_writes_are_kept_and_counted(make_model, rows_file, tmp_path, monkeypatch):
    seen = []
    module = sys.modules["bloomery.adapt.distillation.distil"]  # whose name the function has in the package
    monkeypatch.setattr(module, "split", lambda *how: seen.append(split(*how)) or seen[-1])
    config = replace(CONFIG, way="texts", max_new_tokens=30, samples=3)
    made = distil(make_model(), make_model(1), rows_file(ROWS), config=config, workspace=tmp_path)
    rows = [json.loads(line) for line in (made.path / "texts.jsonl").read_text().splitlines()]
    cost = made.metrics["writing"]
    assert cost["texts"] == len(rows) == 72
    assert cost["completion_tokens"] == sum(row["completion_tokens"] for row in rows)
    # 24 prompts, a quarter held out: no prompt has one of its answers here and another there.
    prompts = {number: row["prompt"] for number, row in enumerate(r for r in rows if r["ended"] and r["completion"])}
    held = {prompts[number] for number in seen[0][0]}
    assert held and not held & {prompts[number] for number in seen[0][1]}
    assert made.metrics["texts_without_an_end"] == sum(not (r["ended"] and r["completion"].strip()) for r in rows)


def test_plain_texts_teach_too(make_model, rows_file, tmp_path, monkeypatch):
    """Each is cut into windows that hold all of its tokens, which stay in one split; the student comes nearer."""
    seen = []
    module = sys.modules["bloomery.adapt.distillation.distil"]
    monkeypatch.setattr(module, "split", lambda *how: seen.append((how[0], split(*how))) or seen[-1][1])
    student, texts = make_model(), [f"Number {n} was a small furnace. " * (3 + 4 * n) for n in range(8)]
    data = rows_file([{"text": text} for text in texts])
    made = distil(student, make_model(1), data, config=CONFIG, workspace=tmp_path)
    tokenizer = Tokenizer.load(student.path)
    sizes = [len(tokenizer.encode(text)) + 1 for text in texts]  # with the end token, after a separator
    windows = [math.ceil(size / 63) for size in sizes]  # of 64 tokens, the model's context, that overlap by one
    assert sum(windows) > 2 * len(texts)
    families, (held, kept) = seen[0]
    assert families == [text for text, count in zip(texts, windows, strict=True) for _ in range(count)]
    assert made.metrics["examples"] == len(kept) and made.metrics["held_out"] == len(held) > 0
    assert not {families[n] for n in held} & {families[n] for n in kept}
    curve = [value for _, _, value in made.metrics["validation_curve"]]
    assert curve[-1] < curve[0] and made.metrics["validation_divergence"] > 0
    slow = replace(CONFIG, fit=replace(FIT, learning_rate=1e-12))
    untouched = distil(student, make_model(1), data, config=slow, workspace=tmp_path)
    assert made.metrics["validation_divergence"] < 0.9 * untouched.metrics["validation_divergence"]


def test_mistakes(make_model, rows_file, tmp_path):
    with pytest.raises(DataError, match="no file"):
        distil(make_model(), make_model(1), tmp_path / "none", workspace=tmp_path)
    with pytest.raises(DataError, match="no answer"):
        distil(make_model(), make_model(1), rows_file([{"prompt": "a"}]), workspace=tmp_path)
    with pytest.raises(DataError, match="no prompt"):
        texts = replace(CONFIG, way="texts")
        distil(make_model(), make_model(1), rows_file([{"text": "a"}]), config=texts, workspace=tmp_path)
