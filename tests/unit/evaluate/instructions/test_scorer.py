"""The scorer of instructions: all or each, strict or loose, as lm-eval's own results."""

from __future__ import annotations

from typing import Any

import pytest

from bloomery.core.errors import DataError
from bloomery.evaluate.instructions import Instructions
from bloomery.evaluate.sample import Answered, Sample

NAMES = ["punctuation:no_comma", "startend:end_checker", "detectable_format:number_bullet_lists"]
SETTINGS: list[dict[str, Any]] = [{}, {"end_phrase": "the end"}, {"num_bullets": 1}]
SAMPLE = Sample(id="1", input="p", metadata={"instructions": NAMES, "settings": SETTINGS, "prompt": "p"})
ANSWERS = [
    "* ore\nthe end",
    "Sure, here it is:\n* ore\nthe end",
    "* ore\nthe end\nAnything else, sir?",
    "**the end**\n* ore",
    "",
    "ore, iron",
]


def scored(text: str, **how: bool) -> float:
    return Instructions(**how).score(SAMPLE, Answered(sample_id="1", text=text)).value


@pytest.mark.parametrize("text", ANSWERS)
def test_as_lm_eval_scores_them(text: str):
    import nltk

    before, nltk.download = nltk.download, lambda *_, **__: True
    try:
        from lm_eval.tasks.ifeval.utils import process_results
    finally:
        nltk.download = before
    doc = {"key": 1, "prompt": "p", "instruction_id_list": NAMES, "kwargs": SETTINGS}
    theirs = process_results(doc, [text])
    assert scored(text) == float(theirs["prompt_level_strict_acc"])
    assert scored(text, loose=True) == float(theirs["prompt_level_loose_acc"])
    strict, loose = theirs["inst_level_strict_acc"], theirs["inst_level_loose_acc"]
    assert scored(text, each=True) == pytest.approx(sum(strict) / 3)
    assert scored(text, each=True, loose=True) == pytest.approx(sum(loose) / 3)


def test_what_cannot_be_scored():
    answered = Answered(sample_id="1", text="x")
    with pytest.raises(DataError):
        Instructions().score(Sample(id="1", input="p"), answered)
    unknown = Sample(id="1", input="p", metadata={"instructions": ["punctuation:no_coma"], "settings": [{}]})
    with pytest.raises(DataError) as caught:
        Instructions().score(unknown, answered)
    assert "no_comma" in caught.value.hint
