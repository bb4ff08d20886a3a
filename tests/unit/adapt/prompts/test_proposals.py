"""What a model is shown for an instruction, and what is made of what it says."""

from __future__ import annotations

import pytest

from bloomery.adapt.prompts.proposals import (
    edited,
    read_instruction,
    rewording,
    with_examples,
    with_instruction,
    writing,
)
from bloomery.adapt.prompts.template import PromptTemplate
from bloomery.evaluate.sample import Sample

TRAIN = [Sample(id=str(n), input=f"text {n}", targets=("ab"[n % 2],), choices=("a", "b")) for n in range(20)]


def test_a_model_is_shown_samples_and_their_answers():
    (message,) = writing("Be good.", TRAIN, seed=1)
    text = message["content"]
    assert text.count("Input: text") == 4 and text.count("Output: a") == 2 and "so far was: Be good." in text
    assert writing("", TRAIN, seed=1) == writing("", TRAIN, seed=1) != writing("", TRAIN, seed=2)
    assert "What was the instruction?" in writing("", TRAIN, seed=1)[0]["content"]
    assert rewording("Be good.")[0]["content"].endswith("Be good.")


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ('"Say a or b."\n\nBecause...', "Say a or b."),
        ("Instruction: Say a\nor b.", "Say a or b."),
        ("The better instruction is: Say a.", "Say a."),
        ("Here it is:\n\nSay a.", "Say a."),
        ("  \n\n ", ""),
        ("Say whether {{ input }} is a.", ""),
    ],
)
def test_the_instruction_in_what_it_says(said: str, wanted: str):
    assert read_instruction(said) == wanted


def test_edits_are_small():
    whole = "Read it. Think. Answer."
    found = {edited(whole, seed) for seed in range(40)}
    sentences = {"Read it.", "Think.", "Answer."}
    assert whole not in found and len(found) > 3
    for one in found:
        left = one.replace("Read it.", "Read_it.").split()
        assert len(left) in (2, 3) and {part.replace("_", " ") for part in left} <= sentences
    assert edited("One sentence.", 0) == ""


def test_prompts_that_come_of_it():
    template = PromptTemplate(name="t", instruction="x")
    assert with_instruction(template, "y").instruction == "y"
    found = with_examples(template, TRAIN, 4, seed=3)
    assert sorted(shot.answer for shot in found.shots) == ["a", "a", "b", "b"] and found.examples.count == 4
