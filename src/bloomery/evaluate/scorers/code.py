"""Code: a program that a model wrote, run with the task's tests in a sandbox.

A sample's metadata says how: `tests` (a text, or a list of statements such as MBPP's asserts) stand after the answer;
`prefix` (HumanEval's prompt) before it, unless the answer holds the whole function; `entry_point` is the function that
`check(...)` in the tests is called with, as HumanEval does (Chen and others, arXiv 2107.03374). This module does not
know how programs are fenced in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from bloomery.evaluate.sample import Answered, Sample, Score
from bloomery.evaluate.scorers.given import nothing
from bloomery.evaluate.scorers.sandbox import Sandbox, Wall

_FENCE = re.compile(r"```[ \t]*(\w*)[^\n]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Code:
    """Right if all tests pass. `wall` as in `Sandbox`: "auto" needs both of its walls to be there."""

    wall: Wall = "auto"
    seconds: float = 5.0
    """Of each program, wall-clock and processor time."""
    memory_mebibytes: int = 256
    _sandbox: Sandbox = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        made = Sandbox(wall=self.wall, seconds=self.seconds, memory_mebibytes=self.memory_mebibytes)
        object.__setattr__(self, "_sandbox", made)

    @property
    def name(self) -> str:
        return "code" if self.wall == "auto" else f"code ({self.wall})"

    def score(self, sample: Sample, answered: Answered) -> Score:
        if (worthless := nothing(self.name, sample, answered)) is not None:
            return worthless
        if not sample.metadata.get("tests"):
            return Score(sample_id=sample.id, scorer=self.name, value=0.0, why="the sample has no tests")
        program, code = program_of(sample, answered.text)
        found = self._sandbox.run(program)
        return Score(
            sample_id=sample.id,
            scorer=self.name,
            value=float(found.passed),
            answer=code[:4000],
            why=found.why,
            details={"wall": found.wall, "seconds": round(found.seconds, 3)},
        )


def program_of(sample: Sample, text: str) -> tuple[str, str]:
    """What is run, and the part of it that was answered."""
    code = code_of(text)
    prefix, entry = str(sample.metadata.get("prefix", "")), str(sample.metadata.get("entry_point", ""))
    whole = re.search(rf"^[ \t]*(?:async[ \t]+)?def[ \t]+{re.escape(entry)}\b", code, re.MULTILINE) if entry else None
    if prefix and whole:
        # the whole function: of the prompt only what stands before it, which may import and define
        prefix = (
            prefix[: found.start()] if (found := re.search(rf"^def[ \t]+{re.escape(entry)}\b", prefix, re.M)) else ""
        )
    tests = sample.metadata["tests"]
    lines = tests if isinstance(tests, str) else "\n".join(str(one) for one in tests)
    called = f"\ncheck({entry})" if entry and re.search(r"^def check\(", lines, re.MULTILINE) else ""
    return f"{prefix}{code}\n\n{lines}{called}\n", code


def code_of(text: str) -> str:
    """The longest block of Python in fences of backticks; without fences the text as it is, its indentation with it."""
    blocks = [(kind, body) for kind, body in _FENCE.findall(text) if kind.lower() in ("", "python", "py", "python3")]
    return max((body for _, body in blocks), key=len) if blocks else text
