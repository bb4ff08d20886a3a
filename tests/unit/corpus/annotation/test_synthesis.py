"""A corpus that a model wrote: what is kept of each record, what goes and why, and going on after a crash."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bloomery.core.errors import ConfigError, DataError, RequestError
from bloomery.corpus.annotation.synthesis import PROMPTS_FILE, synthesise
from bloomery.corpus.annotation.synthesis_prompts import Instruction, SynthesisConfig
from bloomery.corpus.shards import DROPPED_FILE, read_documents, read_lines

SLOTS = {"n": [f"topic{n}" for n in range(400)]}
CONFIG = SynthesisConfig(kind="documents", prompt="About {n}", slots=SLOTS, count=40, validation_fraction=0.1)


def writes(text: str, options) -> str:
    """A text of its own for each topic and seed."""
    return " ".join(f"{text.split()[-1]}x{options.seed}y{place}" for place in range(8))


def records(made):
    return {one.id: one for split in ("train", "validation", "test") for one in read_documents(made, split)}


def test_each_record_says_where_it_came_from(workspace, told_model):
    made = synthesise(told_model(writes), CONFIG, workspace=workspace)
    found = records(made)
    assert len(found) == 40 and made.metrics["attempts"] >= 40
    prompts = {row["prompt"]: row for row in read_lines(made.file(PROMPTS_FILE))}
    for one in found.values():
        meta = one.metadata
        assert meta["model"] == "told-model" and one.source == "synthetic:told-model"
        prompt = prompts[meta["prompt"]]
        assert prompt["options"]["seed"] == meta["seed"] and prompt["options"]["temperature"] == meta["temperature"]
        assert one.text == writes(prompt["messages"][-1]["content"], type("O", (), {"seed": meta["seed"]}))
    assert made.metrics["answer_joules"]["central"] == 2.0 * made.metrics["attempts"]
    assert made.metrics["completion_tokens"] == 3 * made.metrics["attempts"]


def test_copies_near_copies_and_overlaps_go_with_the_reason(workspace, told_model, tmp_path: Path):
    held = tmp_path / "test.jsonl"
    held.write_text(json.dumps({"question": "what is the name of the highest mountain of the whole wide world today"}))
    odd = {
        0: "the same words again and again here",
        1: "The same words again and again here",
        2: "the same words again and again there",
        3: "Tell me: what is the name of the highest mountain of the whole wide world today, then?",
        4: "  ",
    }

    def reply(text: str, options) -> str:
        return odd.get(options.seed, writes(text, options))

    made = synthesise(told_model(reply), CONFIG, held_out=[held], workspace=workspace)
    assert made.metrics["dropped"] == {"near_duplicate": 2, "no_record": 1, "overlaps_held_out": 1}
    rows = list(read_lines(made.file(DROPPED_FILE)))
    assert any("mountain" in row["detail"] for row in rows if row["reason"] == "overlaps_held_out")
    assert sum("mountain" in one.text for one in records(made).values()) == 0


def test_whatever_is_wrong_with_a_held_out_file_comes_before_the_first_question(workspace, told_model, tmp_path: Path):
    model = told_model(writes)
    (tmp_path / "bad.jsonl").write_text("{")
    for path, error in ((tmp_path / "bad.jsonl", DataError), (tmp_path / "none.jsonl", ConfigError)):
        with pytest.raises(error):
            synthesise(model, CONFIG, held_out=[path], workspace=workspace)
    assert not model.asked


def test_concurrency_changes_nothing(workspace, told_model):
    one = synthesise(told_model(writes), CONFIG, concurrency=1, workspace=workspace)
    many = synthesise(told_model(writes), CONFIG, concurrency=8, workspace=workspace, fresh=True)
    assert one.id == many.id


def test_an_interrupted_run_asks_for_nothing_again(workspace, told_model):
    whole = synthesise(told_model(writes), CONFIG, workspace=workspace, fresh=True)

    def stops(text: str, options) -> str:
        if len(broken.asked) > 25:
            raise RequestError("gone", status=401)
        return writes(text, options)

    broken = told_model(stops)
    with pytest.raises(RequestError, match="gone"):
        synthesise(broken, CONFIG, concurrency=1, workspace=workspace, fresh=True)
    again = told_model(writes)
    made = synthesise(again, CONFIG, workspace=workspace, fresh=True)
    assert made.id == whole.id and len(again.asked) == whole.metrics["attempts"] - 25
    third = told_model(writes)
    assert synthesise(third, CONFIG, workspace=workspace).id == whole.id and not third.asked


def test_questions_about_a_corpus(spam, told_model):
    def reply(text: str, options) -> str:
        return json.dumps({"question": writes("?", options) + "?", "answer": f"A {options.seed}"})

    config = SynthesisConfig(kind="questions", count=20)
    made = synthesise(told_model(reply), config, corpus=spam.corpus, workspace=spam.workspace)
    ids = {one.id for one in read_documents(spam.corpus, "train")}
    assert made.parents == (spam.corpus.id,)
    for one in records(made).values():
        assert one.metadata["about"] in ids and one.metadata["answer"].startswith("A ")
    with pytest.raises(ConfigError, match="need a corpus"):
        synthesise(told_model(reply), config, workspace=spam.workspace)


def test_instructions_that_repeat_the_seeds_go(workspace, told_model):
    seeds = (Instruction(instruction="Write a poem about the sea", output="Waves."),)

    def reply(text: str, options) -> str:
        own = options.seed % 2
        told = f"Task {options.seed} of another sort {options.seed}" if own else "Write a poem about the sea"
        return json.dumps({"instruction": told, "input": "", "output": "Done."})

    config = SynthesisConfig(kind="instructions", seeds=seeds, count=10, similarity=0.75)
    made = synthesise(told_model(reply), config, workspace=workspace)
    assert len(records(made)) == 10 and made.metrics["dropped"]["near_duplicate"] >= 8
    assert all(one.metadata["output"] == "Done." for one in records(made).values())


def test_too_few_is_said_and_none_is_an_error(workspace, told_model):
    made = synthesise(told_model(lambda text, options: text[-1]), CONFIG, workspace=workspace)
    assert len(records(made)) < 40 and made.metrics["attempts"] == 120
    with pytest.raises(DataError, match="no training record is left"):
        synthesise(told_model(lambda text, options: ""), CONFIG, workspace=workspace, fresh=True)


def test_few_records_take_few_answers(workspace, told_model):
    model = told_model(writes)
    made = synthesise(model, replace(CONFIG, count=6), workspace=workspace)
    assert len(records(made)) == 6 and made.metrics["attempts"] == len(model.asked) <= 12
