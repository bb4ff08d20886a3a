"""Columns: what a person's own rows mean, by what their columns are called: a choice in any of its usual spellings, or
a question with a free answer.

    Question,A,B,C,D,Answer                      a choice; the answer is a letter, a place, or a choice's text
    {"question": ..., "options": {"A": ...}}     the same
    question,correct_answer,distractor1,...      the same
    Instruction,Response                         a free answer

Which it is is said, and `[columns]` in a task's file names columns of other names. How right answers are written (a
letter, a text, a place from 0 or 1) is settled by the whole file, never row by row. This module does not know prompts.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from bloomery.core.errors import ConfigError, DataError
from bloomery.evaluate.tasks.rows import Row

Written = Literal["", "text", "letter", "place from 0", "place from 1"]
_QUESTIONS = ("question", "query", "input", "prompt", "stem", "questiontext", "questionstem", "problem", "instruction")
_QUESTIONS += ("goal", "sentence", "context", "q", "text")
_LISTS = ("choices", "options", "answerchoices", "answeroptions", "candidates", "alternatives", "endings", "answers")
_OF_EACH = frozenset({"", "option", "opt", "choice", "answer", "ans", "ending", "candidate", "alternative", "sol"})
"""What columns of single choices are called, before their letter or number."""
_WRONG = ("distractor", "incorrectanswer", "wronganswer", "incorrect", "wrong")
_RIGHT = ("answer", "answerkey", "correctanswer", "correctoption", "correctchoice", "correct", "gold", "goldlabel")
_RIGHT += ("label", "target", "rightanswer", "right", "answerletter", "correctletter", "answeridx", "answerindex")
_RIGHT += ("correctindex", "correctansweridx", "correctanswerindex", "key", "solution", "groundtruth", "truth", "cop")
_FREE = ("target", "targets", "answer", "answers", "output", "response", "completion", "expected", "expectedoutput")
_FREE += ("expectedanswer", "reference", "correctanswer", "gold", "solution", "label", "groundtruth", "truth")
_NUMBERED = re.compile(r"(\D*?)([a-j]|\d{1,2})")
_LETTER = re.compile(r"[(\[]?\s*([A-Za-z])\s*[)\].:]?")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a task's rows. ConfigError for names that do not go together."""

    question: str = ""
    """Which holds what is asked."""
    choices: tuple[str, ...] = ()
    """One that holds all choices (a list, or letters with texts), or one for each; empty: answers are free."""
    wrong: tuple[str, ...] = ()
    """Instead: those that hold the choices beside the right one, or their list."""
    answer: str = ""
    """Which says what is right."""
    written: Written = ""
    """How it is said which choice is right; empty: as the whole file allows."""

    def __post_init__(self) -> None:
        if not self.question or not self.answer:
            raise ConfigError("columns name the question's and the answer's", hint='[columns] question = "..."')
        if self.choices and self.wrong:
            raise ConfigError("columns name all choices, or the wrong ones")

    @property
    def chosen(self) -> bool:
        """Whether the rows are choices."""
        return bool(self.choices or self.wrong)

    def text(self) -> str:
        """How rows are read, for people."""
        names = [f"{name!r:.40}" for name in (self.choices or self.wrong)]
        listed = ", ".join(names) if len(names) < 4 else f"{names[0]} to {names[-1]}"
        if not self.chosen:
            return f"read as free answers: {self.question!r:.40} is asked, {self.answer!r:.40} is right"
        beside = "choices in" if self.choices else "wrong choices in"
        how = f" (a {self.written})" if self.written else ""
        return f"read as a choice: {self.question!r:.40} is asked, {beside} {listed}, right is {self.answer!r:.40}{how}"

    def settled(self, rows: Sequence[Row]) -> Columns:
        """With how right answers are written, which every row agrees on. DataError, with file and line, for a row that
        is no choice, and where there is no way that fits all."""
        if not self.chosen or self.wrong or self.written or not rows:
            return self
        each = [(row, self._choices(row), str(self._value(row, self.answer)).strip()) for row in rows]
        ways: tuple[Written, ...] = ("text", "letter", "place from 0", "place from 1")
        if self._named_from_one(rows[0]):  # people count as they name
            ways = ("text", "letter", "place from 1", "place from 0")
        fitting = {way: sum(_place(way, said, choices) is not None for _, choices, said in each) for way in ways}
        best = max(ways, key=lambda way: fitting[way])  # the first of equal ones
        for row, choices, said in each:
            if _place(best, said, choices) is None:
                hint = (
                    f"most of {self.answer!r:.40} are a {best}" if fitting[best] else "a letter, a place, or its text"
                )
                raise DataError(
                    f"{row.where}: the answer {said!r:.40} is none of its {len(choices)} choices", hint=hint
                )
        return replace(self, written=best)

    def read(self, row: Row) -> Row:
        """A row as `question`, `choices` and `answer` (a place), or `input` and `targets`; what it has beside stays."""
        asked = self._value(row, self.question)
        used = {self.question, self.answer, *self.choices, *self.wrong}
        rest = {name: value for name, value in row.values.items() if name not in used}
        said = self._value(row, self.answer)
        if not self.chosen:
            told = said if isinstance(said, list) else [said]
            return replace(row, values={**rest, "input": str(asked), "targets": told})
        if self.wrong:
            right = str(said).strip()
            others = [one for name in self.wrong for one in self._beside(row, name)]
            choices = sorted(dict.fromkeys([right, *others]))  # where the right one stands tells nothing
            place = choices.index(right)
        else:
            choices = self._choices(row)
            found = _place(self.written, str(said).strip(), choices)
            if found is None:
                raise DataError(f"{row.where}: the answer {str(said)!r:.40} is no {self.written or 'choice'}")
            place = found
        return replace(row, values={**rest, "question": str(asked), "choices": choices, "answer": place})

    def _named_from_one(self, row: Row) -> bool:
        """option1, option2, ..., or one column with {"1": ..., "2": ...}, or labels 1, 2, ... beside texts."""
        if len(self.choices) != 1:
            return any(re.search(r"\D1$", name) for name in self.choices[:1])
        value = _parsed_choices(row.values.get(self.choices[0]))
        if isinstance(value, Mapping):
            labels = value.get("label", value.get("labels"))
            return str(next(iter(labels if isinstance(labels, list) else sorted(value, key=_ordinal)), "")) == "1"
        return False

    def _beside(self, row: Row, name: str) -> list[str]:
        """The wrong choices of a column: one, whatever marks are in it, where there is a column for each."""
        value = row.values.get(name)
        if len(self.wrong) == 1 or isinstance(value, (list, Mapping)):
            return _listed(value, name, row.where)
        text = "" if value is None else str(value).strip()
        return [text] if text else []  # rows with fewer choices leave some empty

    def _choices(self, row: Row) -> list[str]:
        if len(self.choices) == 1:
            return _listed(self._value(row, self.choices[0]), self.choices[0], row.where)
        each = [row.values.get(name) for name in self.choices]
        texts = ["" if one is None else str(one).strip() for one in each]
        while texts and not texts[-1]:  # rows with fewer choices leave the last ones empty
            texts.pop()
        return texts

    def _value(self, row: Row, name: str) -> Any:
        value = row.values.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            raise DataError(
                f"{row.where}: {name!r:.40} is empty", hint=f"there is: {', '.join(map(str, row.values))}"[:200]
            )
        return value


def _place(written: Written, said: str, choices: Sequence[str]) -> int | None:
    """Which choice is meant; None for none."""
    if written == "text":
        return choices.index(said) if said in choices else None
    if written == "letter":
        match = _LETTER.fullmatch(said)
        place = ord(match[1].upper()) - ord("A") if match else -1
    else:
        place = int(float(said)) if re.fullmatch(r"\d{1,3}(\.0)?", said) else -1
        place -= written == "place from 1"
    return place if 0 <= place < len(choices) else None


def _listed(value: Any, name: str, where: str) -> list[str]:
    """Choices of one column: a list, letters with texts, labels beside texts, a text that is a list, or one alone."""
    value = _parsed_choices(value)
    if isinstance(value, Mapping):
        inner = value.get("text", value.get("texts"))
        value = inner if isinstance(inner, list) else [value[key] for key in sorted(value, key=_ordinal)]
    if isinstance(value, str) and value.strip():
        marks = [mark for mark in ("|", ";", "\n") if mark in value]
        value = value.split(marks[0]) if marks else [value]
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: {name!r:.40} holds no list of choices")
    return [str(one.get("text", "") if isinstance(one, Mapping) else one).strip() for one in value]


def _parsed_choices(value: Any) -> Any:
    return _parsed(value.strip()) if isinstance(value, str) and value.strip()[:1] in ("[", "{") else value


def _ordinal(key: Any) -> tuple[int, str]:
    """A before B, 2 before 10."""
    return len(str(key)), str(key)


def _parsed(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def columns_of(row: Mapping[str, Any], file: str) -> Columns | None:
    """What a first row's names and values say; None for rows in a task's own layouts, and for what is not known.
    ConfigError, with what lacks, for choices without a question or an answer."""
    names = {plain: name for name in reversed(list(row)) if (plain := _plain(name))}
    all_of, each, wrong = _choice_list(row, names), _family(names, _OF_EACH.__contains__), _wrong(row, names)
    if not (all_of or each or wrong):
        return _free(row, names)
    right = next((names[one] for one in _RIGHT if one in names and names[one] not in (*all_of, *each, *wrong)), "")
    if right and isinstance(row[right], list):
        return None  # several are right
    choices = () if wrong and right and _plain(right) == "correctanswer" else all_of or each
    if not choices and not (wrong and right):
        return _free(row, names)
    if not right and all_of and _plain(all_of[0]) == "answers":
        return _free(row, names)  # several that are right
    if not right:
        there = ", ".join(choices)
        raise ConfigError(f"{file} has choices ({there:.60}), but no column that says which is right", hint=_HINT)
    taken = {right, *choices, *wrong}
    asked = next((names[one] for one in _QUESTIONS if one in names and names[one] not in taken), "")
    if not asked:
        raise ConfigError(f"{file} has choices, but no column that is called like a question", hint=_HINT)
    return Columns(question=asked, choices=choices, wrong=() if choices else wrong, answer=right)


_HINT = 'call it "question" or "answer", or name it in a TOML file: [columns] question, choices, answer'


def _plain(name: Any) -> str:
    return re.sub(r"[\W_]+", "", str(name).casefold())


def _choice_list(row: Mapping[str, Any], names: Mapping[str, str]) -> tuple[str, ...]:
    for one in _LISTS:
        if one in names and _several(row[names[one]]):
            return (names[one],)
    return ()


def _several(value: Any) -> bool:
    try:
        return len(_listed(value, "", "")) > 1
    except DataError:
        return False


def _wrong(row: Mapping[str, Any], names: Mapping[str, str]) -> tuple[str, ...]:
    for one in _WRONG:
        if (plural := f"{one}s") in names and isinstance(row[names[plural]], (list, str)):
            return (names[plural],)
    return _family(names, _WRONG.__contains__, least=1)


def _family(names: Mapping[str, str], fits: Callable[[str], bool], *, least: int = 2) -> tuple[str, ...]:
    """The columns of single choices: called alike, in a row from A, 0 or 1."""
    found: dict[tuple[str, bool], dict[int, str]] = {}
    for plain, name in names.items():
        match = _NUMBERED.fullmatch(plain)
        if match and fits(match[1]):
            digit = match[2].isdigit()
            number = int(match[2]) if digit else ord(match[2]) - ord("a")
            found.setdefault((match[1], digit), {})[number] = name
    best: tuple[str, ...] = ()
    for (_, digit), own in found.items():
        start = 1 if digit and 0 not in own else 0
        run = []
        while start + len(run) in own:
            run.append(own[start + len(run)])
        if len(run) >= least and len(run) > len(best):
            best = tuple(run)
    return best


def _free(row: Mapping[str, Any], names: Mapping[str, str]) -> Columns | None:
    asked = next((names[one] for one in _QUESTIONS if one in names), "")
    right = next((names[one] for one in _FREE if one in names and names[one] != asked), "")
    return Columns(question=asked, answer=right) if asked and right else None


def rows_of(columns: Columns, rows: Iterable[Row]) -> tuple[Columns, list[Row]]:
    """All rows read, and how. Errors as `Columns.settled` and `read`."""
    every = list(rows)
    settled = columns.settled(every)
    return settled, [settled.read(row) for row in every]
