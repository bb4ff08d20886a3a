"""Question: a row of a task as what is asked of a model, with examples before it, and what is right.

Few-shot examples are laid out as lm-evaluation-harness does it; which ones are drawn depends on the seed and the row
alone. This module does not know files or models.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from bloomery.core.errors import ConfigError, DataError
from bloomery.core.likelihood import Pair
from bloomery.evaluate.sample import Sample
from bloomery.evaluate.tasks.rows import Row
from bloomery.evaluate.tasks.task import Layout, Task
from bloomery.evaluate.tasks.template import text_of, value_of

MAX_CHOICES = 256
_MAX_CLUSTER = 40
OWN_LAYOUTS: Mapping[str, tuple[Layout, ...]] = {
    "choice": (
        Layout(needs=("query", "choices", "gold"), prompt="{{ query }}", choices="choices", answer="gold"),
        Layout(needs=("question", "choices", "answer"), prompt="{{ question }}", choices="choices", answer="answer"),
        Layout(needs=("input", "choices", "target"), prompt="{{ input }}", choices="choices", answer="target"),
        Layout(needs=("sentence_good", "sentence_bad"), choices="[sentence_good, sentence_bad]", answer="0"),
    ),
    "last_word": (Layout(needs=("context", "continuation"), prompt="{{ context }}", target=" {{ continuation }}"),),
    "text": (Layout(needs=("text",), target="{{ text }}"),),
    "generation": (
        Layout(needs=("input", "target"), prompt="{{ input }}", answer="target"),
        Layout(needs=("input", "targets"), prompt="{{ input }}", answer="targets"),
        Layout(needs=("question", "answer"), prompt="{{ question }}", answer="answer"),
        Layout(needs=("prompt", "answer"), prompt="{{ prompt }}", answer="answer"),
        Layout(needs=("context", "answer"), prompt="{{ context }}", answer="answer"),
        *(Layout(needs=(name,), prompt="{{ " + name + " }}") for name in ("input", "prompt", "question")),
    ),
    "context": (),
}
"""How people write rows of their own."""
OF_COLUMNS = (
    Layout(needs=("question", "choices", "answer"), prompt="{{ question }}", choices="choices", answer="answer"),
    Layout(needs=("input", "targets"), prompt="{{ input }}", answer="targets"),
)
"""How `Columns` reads them."""
_FOR_SCORERS = ("tests", "prefix", "entry_point", "rubric", "schema", "instructions", "settings")
"""Columns of own rows that scorers see without being told."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked for one sample: pairs whose likelihoods are compared, or a prompt to go on from."""

    sample: Sample
    prompt: str
    """Examples included; of a choice between contexts the text that follows them."""
    pairs: tuple[Pair, ...] = ()
    choices: tuple[str, ...] = ()
    """As the row has them, equal ones too."""
    golds: tuple[int, ...] = ()
    """The places of right choices."""
    group: str = ""
    texts: tuple[str, ...] = ()
    """Every text of the row, which a training corpus should not hold."""


def questions(
    task: Task,
    rows: Iterable[Row],
    *,
    examples: Sequence[Row] = (),
    few_shot: int = 0,
    seed: int = 0,
) -> Iterator[Question]:
    """The rows as questions, in order. DataError, with file and line, for a row that is none."""
    shots = _Shots(task, examples, few_shot, seed)
    for number, row in enumerate(rows):
        yield _question(task, row, number, shots)


def limited(task: Task, rows: Iterable[Row], limit: int | None) -> Iterator[Row]:
    """The first rows; of a task with groups, the first of each."""
    if limit is None or not task.groups:
        yield from islice(rows, limit)
        return
    seen: Counter[str] = Counter()
    for row in rows:
        group = _named(layout_of(task, row).group, row)
        seen[group] += 1
        if seen[group] <= limit:
            yield row


def strings(value: Any) -> Iterator[str]:
    """Every text within plain data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from strings(inner)


def _question(task: Task, row: Row, number: int, shots: _Shots) -> Question:
    layout = layout_of(task, row)
    group = _named(layout.group, row)
    identity = _named(layout.id, row) or f"{number}"
    before = shots.before(row, group, identity)
    prompt = before + text_of(layout.prompt, _fields(row), where=row.where)
    chosen = task.kind in ("choice", "context")
    choices = _choices(layout, row) if chosen else ()
    golds = _golds(layout, row, choices) if chosen else ()
    return Question(
        sample=_sample(task, layout, row, identity, prompt, choices, golds),
        prompt=prompt,
        pairs=_pairs(task, layout, row, before, prompt, choices),
        choices=choices,
        golds=golds,
        group=group,
        texts=tuple(strings(row.values)),
    )


def fits(task: Task, row: Row) -> bool:
    """Whether a row has the fields of any of the task's layouts."""
    try:
        layout_of(task, row)
    except DataError:
        return False
    return True


def layout_of(task: Task, row: Row) -> Layout:
    """The first layout whose fields the row has. DataError, which names them, if it has those of none."""
    layouts = task.layouts or (OF_COLUMNS if task.columns is not None else OWN_LAYOUTS[task.kind])
    if task.kind == "generation" and not (task.layouts or task.metrics or task.judge):  # only targets tell right
        layouts = tuple(layout for layout in layouts if layout.answer)
    for layout in layouts:
        if all(name in row.values for name in layout.needs):
            return layout
    wanted = " or ".join("{" + ", ".join(layout.needs) + "}" for layout in layouts)
    there = f"; there is: {', '.join(map(str, row.values))}" if row.values else ""
    raise DataError(f"{row.where} lacks what a row of {task.name} has: {wanted}", hint=f"rename its fields{there:.200}")


def _fields(row: Row) -> dict[str, Any]:
    return {**row.values, "file": row.file}


def _named(expression: str, row: Row) -> str:
    return str(value_of(expression, _fields(row), where=row.where)) if expression else ""


def _choices(layout: Layout, row: Row) -> tuple[str, ...]:
    listed = value_of(layout.choices, _fields(row), where=row.where) if layout.choices else []
    if not listed:
        return ()
    good = isinstance(listed, list) and all(isinstance(one, str) and one for one in listed)
    if not good or not 2 <= len(listed) <= MAX_CHOICES:
        raise DataError(f"{row.where}: choices are two texts or more, up to {MAX_CHOICES}")
    return tuple(listed)


def _golds(layout: Layout, row: Row, choices: Sequence[str]) -> tuple[int, ...]:
    """Places of right choices: given as a place, a list of places, or the text of one."""
    value = value_of(layout.answer, _fields(row), where=row.where)
    if isinstance(value, str):
        value = choices.index(value) if value in choices else int(value) if value.isdecimal() else value
    listed: list[Any] = value if isinstance(value, list) else [value]
    for one in listed:
        if isinstance(one, bool) or not isinstance(one, int) or not 0 <= one < len(choices):
            raise DataError(f"{row.where}: the answer is {one!r:.40}, not the place of a choice")
    if not listed:
        raise DataError(f"{row.where}: no choice is right")
    return tuple(listed)


def _target(layout: Layout, row: Row) -> str:
    return text_of(layout.target, _fields(row), where=row.where)


def _texts(value: Any, where: str) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    texts = tuple(one if isinstance(one, str) else str(one) for one in listed if one is not None)
    if not texts:
        raise DataError(f"{where}: there is no right answer")
    return texts


def _sample(
    task: Task,
    layout: Layout,
    row: Row,
    identity: str,
    prompt: str,
    choices: tuple[str, ...],
    golds: tuple[int, ...],
) -> Sample:
    cluster = _named(layout.cluster, row)
    if len(cluster) > _MAX_CLUSTER:  # a passage
        cluster = hashlib.sha256(cluster.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    fields = _fields(row)
    kept = {name: value_of(expression, fields, where=row.where) for name, expression in layout.keep.items()}
    own = {} if task.layouts else {name: fields[name] for name in _FOR_SCORERS if fields.get(name) not in (None, "")}
    metadata = {**own, **kept, "where": row.where}
    if choices:
        targets = tuple(dict.fromkeys(choices[place] for place in golds))
    elif layout.answer:
        targets = _texts(value_of(layout.answer, _fields(row), where=row.where), row.where)
    else:
        targets = (_target(layout, row),) if layout.target else ()
    different = tuple(dict.fromkeys(choices))
    return Sample(
        id=identity,
        input=prompt,
        targets=targets,
        choices=different if len(different) > 1 else (),
        cluster=cluster,
        metadata=metadata,
    )


def _pairs(
    task: Task, layout: Layout, row: Row, before: str, prompt: str, choices: tuple[str, ...]
) -> tuple[Pair, ...]:
    if task.kind == "choice":
        return tuple(Pair(prompt, task.between + choice) for choice in choices)
    if task.kind == "context":
        ending = task.between + _target(layout, row)
        return tuple(Pair(before + context, ending) for context in choices)
    return (Pair(prompt, _target(layout, row)),) if task.kind == "last_word" else ()


class _Shots:
    """What stands before a question: the description and examples."""

    def __init__(self, task: Task, rows: Sequence[Row], count: int, seed: int) -> None:
        self._task, self._count, self._seed = task, count, seed
        self._rows: dict[str, list[Row]] = defaultdict(list)
        if count:
            for row in rows:
                self._rows[self._group(row)].append(row)
        self._texts: dict[str, str] = {}

    def _group(self, row: Row) -> str:
        """Examples of a task with groups are of the question's own."""
        return _named(layout_of(self._task, row).group, row) if self._task.groups else ""

    def before(self, row: Row, group: str, identity: str) -> str:
        task = self._task
        text = text_of(task.description, _fields(row), where=row.where) if task.description else ""
        if not self._count:
            return text
        rows = self._rows[group if task.groups else ""]
        if len(rows) < self._count:
            of = f" of {group}" if group else ""
            raise ConfigError(f"{task.name} has {len(rows)} examples{of}, not {self._count}")
        return text + "".join(map(self._shown, self._drawn(rows, row, identity)))

    def _drawn(self, rows: list[Row], row: Row, identity: str) -> list[Row]:
        """Never the question itself."""
        if self._task.examples == "first":
            drawn = rows[: self._count + 1]
        else:
            generator = random.Random(f"{self._seed}/{self._task.name}/{identity}")
            drawn = generator.sample(rows, min(len(rows), self._count + 1))
        return [one for one in drawn if one.values != row.values][: self._count]

    def _shown(self, row: Row) -> str:
        text = self._texts.get(row.where)
        if text is None:
            text = self._texts[row.where] = self._example(row)
        return text

    def _example(self, row: Row) -> str:
        task = self._task
        layout = layout_of(task, row)
        prompt = text_of(layout.prompt, _fields(row), where=row.where)
        if task.kind in ("choice", "context"):
            choices = _choices(layout, row)
            right = choices[_golds(layout, row, choices)[0]]
        else:
            right = ""
        if task.kind == "context":
            return f"{right}{task.between}{_target(layout, row)}{task.between_examples}"
        if task.kind == "choice":
            return f"{prompt}{task.between}{right}{task.between_examples}"
        shown = (
            _target(layout, row)
            if layout.target
            else _texts(value_of(layout.answer, _fields(row), where=row.where), row.where)[0]
        )
        space = "" if task.kind == "last_word" else task.between
        return f"{prompt}{space}{shown}{task.between_examples}"
