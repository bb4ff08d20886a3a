"""Choices by likelihood: scores as transformers' logits give them, intervals as in the textbook, files of others."""

from __future__ import annotations

import json
import lzma
import runpy
from pathlib import Path

import pytest
import torch

from bloomery.core.errors import DataError
from bloomery.engine import LanguageModel, load
from bloomery.evaluate.choices import Item, accuracy, compare_choices, read_items, score_items

make_tiny_model = runpy.run_path(str(Path(__file__).parents[2] / "tiny_model.py"))["make_tiny_model"]
ITEMS = [
    Item("Once upon a time there was a small", ("furnace that", "oven", "火 炉"), 1),
    Item("", ("def smelt(ore):", "ore smelt def"), 0),
    Item("iron " * 200, ("ore", "charcoal"), 0),  # longer than the context
    Item("Ends with a space ", ("so", "no gap"), 1),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def model(folder: Path) -> LanguageModel:
    found = load(folder, device="cpu")
    assert isinstance(found, LanguageModel)
    return found


def test_scores_are_those_of_transformers(model: LanguageModel, folder: Path):
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = model.tokenizer
    start = tokenizer.encode("", add_bos=tokenizer.adds_bos) or [tokenizer.separator_id]
    for item, score in zip(ITEMS, score_items(model, ITEMS), strict=True):
        sums = []
        for choice in item.choices:
            gap = " " if item.query and not item.query.endswith(" ") else ""
            whole = start + tokenizer.encode(item.query + gap + choice)
            count = len(whole) - len(start) - len(tokenizer.encode(item.query))
            ids = torch.tensor([whole[-model.context_length :]])
            with torch.inference_mode():
                logprobs = reference(ids).logits[0].log_softmax(-1)
            sums.append(sum(float(logprobs[-1 - n, ids[0, -n]]) for n in range(1, max(1, count) + 1)))
        assert score.nats == pytest.approx(sums, abs=1e-3)
        assert score.right == (sums.index(max(sums)) == item.gold)


def test_intervals():
    # Newcombe, Statistics in Medicine 17 (1998), table I: Wilson's interval of 81/263 and of 0/20.
    found = accuracy([True] * 81 + [False] * 182)
    assert (found["low"], found["high"]) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    none = accuracy([False] * 20)
    assert (none["low"], none["high"]) == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_a_model_beside_itself(model: LanguageModel):
    report = compare_choices(model, model, ITEMS)
    assert report["before"] == report["after"] and report["same_choice"] == 1.0 and report["items"] == 4
    change = report["change"]
    # Bonett and Price: 1.959964 * sqrt(2 / 6 / 6) about 0, since four items that do not differ do not say that none
    # would
    assert change["accuracy"] == 0.0 and (change["low"], change["high"]) == pytest.approx((-0.46197, 0.46197), abs=1e-5)


def test_files(tmp_path: Path):
    lines = [{"query": "a", "choices": ["b", "c"], "gold": 1}, {"sentence_good": "d", "sentence_bad": "e"}]
    text = "\n".join(map(json.dumps, lines)) + "\n\n"
    plain, packed = tmp_path / "a.jsonl", tmp_path / "a.jsonl.xz"
    plain.write_text(text)
    packed.write_bytes(lzma.compress(text.encode()))
    assert read_items(plain) == read_items(packed) == [Item("a", ("b", "c"), 1), Item("", ("d", "e"), 0)]
    assert len(read_items(plain, limit=1)) == 1


@pytest.mark.parametrize(
    "line",
    [
        *("", "[", "[1]", '{"query": "a"}', '{"query": "a", "choices": ["b"], "gold": 0}', '{"sentence_good": "a"}'),
        *('{"query": "a", "choices": ["b", "c"], "gold": 2}', '{"query": "a", "choices": ["b", ""], "gold": 0}'),
        *("[" * 100_000, "x" * (1 << 21), "\udcff"),
    ],
)
def test_what_is_no_question(tmp_path: Path, line: str):
    path = tmp_path / "a.jsonl"
    path.write_bytes(line.encode(errors="surrogateescape"))
    with pytest.raises(DataError) as caught:
        read_items(path)
    assert "\n" not in caught.value.one_line()
    with pytest.raises(DataError):
        read_items(tmp_path / "nowhere.jsonl")
