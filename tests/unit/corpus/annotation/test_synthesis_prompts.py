"""What a model is asked to write, and how what it writes is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.corpus.annotation.synthesis_prompts import (
    Instruction,
    SynthesisConfig,
    attempt,
    read_record,
    read_synthesis,
)
from bloomery.corpus.document import Document

TEXTS = SynthesisConfig(
    kind="documents", prompt="About {topic}, {how}.", slots={"topic": ["a", "b"], "how": ["c", "d"]}
)
SEEDS = tuple(Instruction(instruction=f"Do {n}", output=f"Done {n}") for n in range(5))
TASKS = SynthesisConfig(kind="instructions", seeds=SEEDS)
ASKS = SynthesisConfig(kind="questions", max_document_characters=100)


def asked(config: SynthesisConfig, number: int, made=(), documents=()) -> str:
    return attempt(config, number, made, documents).messages[0]["content"]


def test_slots_are_drawn_by_the_seed():
    told = {asked(TEXTS, number) for number in range(60)}
    assert told == {f"About {topic}, {how}." for topic in "ab" for how in "cd"}
    assert [asked(TEXTS, n) for n in range(9)] == [asked(TEXTS, n) for n in range(9)]
    other = SynthesisConfig(kind="documents", prompt=TEXTS.prompt, slots=TEXTS.slots, seed=1)
    assert [asked(TEXTS, n) for n in range(20)] != [asked(other, n) for n in range(20)]


def test_each_attempt_has_a_seed_of_its_own():
    seeds = [attempt(TEXTS, number, (), ()).options.seed for number in range(1000)]
    assert len(set(seeds)) == 1000


def test_questions_go_round_the_documents():
    documents = [Document.of(f"text {n} " + "x" * 500, "s") for n in range(3)]
    for number in range(6):
        found = attempt(ASKS, number, (), documents)
        assert found.about == documents[number % 3]
        told = found.messages[0]["content"]
        assert f"text {number % 3} " in told and told.count("x" * 90) == 1 and "question, answer" in told


def test_instructions_show_seeds_and_what_was_made():
    made = [Document.of("t", "s", {"instruction": "Made", "input": "", "output": "Yes"})]
    told = asked(TASKS, 0, made)
    shown = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    assert len(shown) == 4 and {"instruction": "Made", "input": "", "output": "Yes"} in shown


def test_records_are_read():
    assert read_record(TEXTS, " A text.\n") == ("A text.", {})
    assert read_record(ASKS, '{"question": "Q?", "answer": "A."}') == ("Q?", {"answer": "A."})
    told = {"instruction": "Do", "input": "it", "output": "done"}
    assert read_record(TASKS, json.dumps(told)) == ("Do\n\nit", told)
    assert read_record(TASKS, json.dumps({**told, "input": ""}))[0] == "Do"


@pytest.mark.parametrize(
    "config, text",
    [
        (TEXTS, " "),
        (ASKS, "no JSON"),
        (ASKS, '["Q?"]'),
        (ASKS, '{"question": "Q?"}'),
        (ASKS, '{"question": "Q?", "answer": "A.", "why": ""}'),
        (ASKS, '{"question": "Q?", "answer": " "}'),
        (ASKS, '{"question": "Q?", "answer": 3}'),
        (TASKS, '{"instruction": "", "input": "", "output": "x"}'),
    ],
)
def test_what_is_no_record(config: SynthesisConfig, text: str):
    with pytest.raises(DataError):
        read_record(config, text)


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "documents"},
        {"kind": "documents", "prompt": "About {topic}"},
        {"kind": "documents", "prompt": "x", "slots": {"a": []}},
        {"kind": "documents", "prompt": "x", "seeds": SEEDS},
        {"kind": "instructions"},
        {"kind": "documents", "prompt": "x", "count": 0},
        {"kind": "documents", "prompt": "x", "similarity": 0.0},
    ],
)
def test_settings_that_make_no_sense(values: dict[str, Any]):
    with pytest.raises(ConfigError):
        SynthesisConfig(**values)


def test_a_file(tmp_path: Path):
    path = tmp_path / "s.toml"
    path.write_text('kind = "instructions"\ncount = 5\n[[seeds]]\ninstruction = "Do"\noutput = "Done"\n')
    assert read_synthesis(path).seeds == (Instruction(instruction="Do", output="Done"),)
    path.write_text('kind = "documents"\nprompt = "x"\ncuont = 5\n')
    with pytest.raises(ConfigError, match=r's\.toml: unknown key "cuont"') as caught:
        read_synthesis(path)
    assert "count" in caught.value.hint
