"""Choices of two models: accuracies from transformers' logits, a model beside itself, files of others."""

from __future__ import annotations

import json
import lzma
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.core.errors import BloomeryError
from bloomery.engine import LanguageModel, load
from bloomery.evaluate.choices import compare_choices, read_choices

make_tiny_model = runpy.run_path(str(Path(__file__).parents[2] / "tiny_model.py"))["make_tiny_model"]
ROWS: list[dict[str, Any]] = [
    {"query": "Once upon a time there was a small", "choices": ["furnace that", "oven", "火 炉"], "gold": 1},
    {"sentence_good": "def smelt(ore):", "sentence_bad": "ore smelt def"},
    {"query": "iron " * 200 + "and", "choices": ["ore", "charcoal"], "gold": 0},  # longer than the context
    {"query": "Ein Ofen,", "choices": ["klein", "und heiß", "Ça va?"], "gold": 2},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def model(folder: Path) -> LanguageModel:
    found = load(folder, device="cpu")
    assert isinstance(found, LanguageModel)
    return found


def lines(path: Path) -> Path:
    text = "\n".join(map(json.dumps, ROWS)) + "\n\n"
    path.write_bytes(lzma.compress(text.encode()) if path.suffix == ".xz" else text.encode())
    return path


def test_accuracies_are_those_of_transformers(model: LanguageModel, folder: Path, tmp_path: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    right, by_bytes = 0, 0
    for row in ROWS:
        choices = row.get("choices") or [row["sentence_good"], row["sentence_bad"]]
        query, gold = row.get("query", ""), row.get("gold", 0)
        sums = []
        for choice in choices:
            ids = tokenizer.encode(f"{query} {choice}")
            count = len(ids) - len(tokenizer.encode(query))
            ids = torch.tensor([ids[-(model.context_length + 1) :]])
            with torch.inference_mode():
                logprobs = reference(ids[:, :-1]).logits[0].log_softmax(-1)
            sums.append(float(logprobs[-count:].gather(1, ids[0, -count:, None]).sum()))
        per_byte = [nats / len(choice.encode()) for nats, choice in zip(sums, choices, strict=True)]
        right += sums.index(max(sums)) == gold
        by_bytes += per_byte.index(max(per_byte)) == gold
    report = compare_choices(model, model, read_choices(lines(tmp_path / "a.jsonl")))
    assert report["before"]["accuracy"] == right / 4 and report["before"]["by_bytes"]["accuracy"] == by_bytes / 4


def test_a_model_beside_itself(model: LanguageModel, tmp_path: Path):
    report = compare_choices(model, model, read_choices(lines(tmp_path / "a.jsonl")))
    assert report["before"] == report["after"] and report["same_choice"] == 1.0 and report["items"] == 4
    change = report["change"]
    # Tango 1998: z^2 / (n + z^2) either side: four items that do not differ do not say that none would
    assert change["accuracy"] == 0.0 and (change["low"], change["high"]) == pytest.approx((-0.48990, 0.48990), abs=1e-5)


def test_files(tmp_path: Path):
    plain, packed = read_choices(lines(tmp_path / "a.jsonl")), read_choices(lines(tmp_path / "a.jsonl.xz"))
    assert [one.pairs for one in plain] == [one.pairs for one in packed]
    assert [one.golds for one in plain] == [(1,), (0,), (0,), (2,)]
    assert len(read_choices(tmp_path / "a.jsonl", limit=1)) == 1


@pytest.mark.parametrize(
    "line",
    [
        *("", "[", "[1]", '{"query": "a"}', '{"query": "a", "choices": ["b"], "gold": 0}', '{"sentence_good": "a"}'),
        *('{"query": "a", "choices": ["b", "c"], "gold": 2}', '{"query": "a", "choices": ["b", ""], "gold": 0}'),
        *("[" * 100_000, "x" * (1 << 25), "\udcff"),
    ],
)
def test_what_is_no_question(tmp_path: Path, line: str):
    path = tmp_path / "a.jsonl"
    path.write_bytes(line.encode(errors="surrogateescape"))
    with pytest.raises(BloomeryError) as caught:
        read_choices(path)
    assert "\n" not in caught.value.one_line()
    with pytest.raises(BloomeryError):
        read_choices(tmp_path / "nowhere.jsonl")


def test_choices_in_columns_of_their_own(tmp_path: Path):
    path = tmp_path / "letters.csv"
    path.write_text("question,A,B,C,answer\nWhat is hot?,ice,fire,snow,B\n", encoding="utf-8")
    (item,) = read_choices(path)
    assert item.sample.choices == ("ice", "fire", "snow") and item.sample.targets == ("fire",)
