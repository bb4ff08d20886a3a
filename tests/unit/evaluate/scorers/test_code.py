"""Code: HumanEval's and MBPP's form; programs with text around them."""

from __future__ import annotations

import pytest

from bloomery.evaluate.sample import Answered, Sample
from bloomery.evaluate.scorers import Code
from bloomery.evaluate.scorers.code import code_of, program_of

PROMPT = 'from typing import List\n\n\ndef double(xs: List[int]) -> List[int]:\n    """Each twice as large."""\n'
CHECK = "def check(candidate):\n    assert candidate([1, 2]) == [2, 4]\n    assert candidate([]) == []\n"
HUMANEVAL = Sample(id="h", input=PROMPT, metadata={"prefix": PROMPT, "entry_point": "double", "tests": CHECK})
MBPP = Sample(id="m", input="?", metadata={"tests": ["assert add(1, 2) == 3", "assert add(-1, 1) == 0"]})


@pytest.fixture(scope="module")
def code() -> Code:
    return Code(seconds=2)


@pytest.mark.parametrize(
    "text, right",
    [
        ("    return [2 * x for x in xs]\n", 1),
        ("    return xs\n", 0),
        ("```python\ndef double(xs: List[int]) -> List[int]:\n    return [x + x for x in xs]\n```", 1),
        ("Here you are:\n```python\ndef double(xs):\n    return [2 * x for x in xs]\n```\nDone.", 1),
        ("```\ndef double(xs):\n    return None\n```", 0),
        ("def double(xs):\n    return [2 * x for x in xs]", 1),
        ("I cannot do that.", 0),
    ],
)
def test_humaneval(code: Code, text: str, right: int):
    assert code.score(HUMANEVAL, Answered(sample_id="h", text=text)).value == right


def test_mbpp(code: Code):
    found = code.score(MBPP, Answered(sample_id="m", text="```python\ndef add(a, b):\n    return a + b\n```"))
    assert found.value == 1 and found.details["wall"] in ("monty", "process") and "return a + b" in found.answer
    wrong = code.score(MBPP, Answered(sample_id="m", text="def add(a, b): return a - b"))
    assert wrong.value == 0 and "AssertionError" in wrong.why


def test_blocks():
    assert code_of("```python\na = 1\n```\n```\nlonger = 2\n```\n```json\n{" + " " * 99 + "}\n```") == "longer = 2"
    assert code_of("    return 1\n") == "    return 1\n" and code_of("```python\ncut = 1") == "cut = 1"
    program, _ = program_of(HUMANEVAL, "    return 1\n")
    assert program.startswith(PROMPT) and program.endswith("check(double)\n")
    whole, _ = program_of(HUMANEVAL, "def double(xs): ...")
    assert whole.count("def double") == 1 and whole.startswith("from typing import List")
