"""Task: what a model is asked, where the questions are, and what right answers are worth; a TOML file.

    title = "My questions"
    kind = "choice"
    [data]
    files = ["mine.jsonl"]

Built-in tasks lie beside this module, one file each; prompts and metrics are lm-evaluation-harness 0.4's, so that
numbers can be compared. This module does not know how data is read or models are asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from bloomery.core.config import from_dict
from bloomery.core.errors import ConfigError, nearest
from bloomery.core.toml_file import read_toml
from bloomery.evaluate.tasks.columns import Columns, columns_of
from bloomery.evaluate.tasks.task_judge import JUDGE, TaskJudge

_NAME = re.compile(r"\w[\w .+()-]{0,99}")
HERE = Path(__file__).resolve().parent
Kind = Literal["choice", "context", "last_word", "text", "generation"]
METRICS: dict[str, tuple[str, ...]] = {
    "choice": ("accuracy", "accuracy_by_characters", "accuracy_by_bytes", "mass_of_right"),
    "context": ("accuracy",),
    "last_word": ("accuracy", "perplexity"),
    "text": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
    "generation": (),
}
"""By kind, those that need no scorer."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a row becomes a question. Templates are Jinja; what is called an expression is one without braces."""

    needs: tuple[str, ...] = ()
    """Fields that a row of this layout has; the first layout that fits is taken."""
    prompt: str = ""
    """Template: what is given."""
    choices: str = ""
    """Expression: the answers to choose from, or, for kind "context", the contexts."""
    answer: str = ""
    """Expression: the place of the right choice, or a list of places; for free answers one that is right, or a list."""
    target: str = ""
    """Template: the text that is scored (last_word, text, context), or shown as answer in examples."""
    id: str = ""
    """Expression: what the row is called; empty: its number."""
    group: str = ""
    """Expression: what it is scored together with beside the whole (a subject, a phenomenon)."""
    cluster: str = ""
    """Expression: rows that share it are not independent of each other (questions about one passage)."""
    keep: dict[str, str] = field(default_factory=dict)
    """What scorers want to see, by their names for it: expressions."""


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """Where the questions are. Patterns are relative to a data folder; "A.tar.xz/B" is a file within an archive."""

    files: tuple[str, ...] = ()
    """Patterns of files as people keep them: all that the first fitting one fits are the whole set."""
    stand_ins: tuple[str, ...] = ()
    """Files of another split, which are taken where there is nothing else; it is said then."""
    example_files: tuple[str, ...] = ()
    """Files that few-shot examples are taken from."""
    hub: str = ""
    """The dataset's id on the Hugging Face hub; its folder may lie in the data folder."""
    config: str = ""
    """Which of its configurations."""
    split: str = "test"
    """Which of its splits is asked."""
    example_split: str = ""
    """Which of its splits few-shot examples are taken from; empty: there is none."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """See the module. ConfigError for what does not go together."""

    name: str = ""
    """As it is asked for; empty: the file's."""
    title: str = ""
    kind: Kind = "choice"
    metrics: tuple[str, ...] = ()
    """Of METRICS, or names of scorers; empty: those that the kind has."""
    data: TaskData = field(default_factory=TaskData)
    layouts: tuple[Layout, ...] = ()
    """Empty: those of rows that people write themselves."""
    columns: Columns | None = None
    """What the columns of a person's own rows mean; None: they are called as the layouts have them."""
    description: str = ""
    """Template: stands before everything."""
    between: str = " "
    """Stands between a prompt and an answer."""
    between_examples: str = "\n\n"
    """Stands after each example."""
    few_shot: int = 0
    """Examples before a question, where the caller says nothing."""
    examples: Literal["drawn", "first"] = "drawn"
    """Drawn anew for each question, or the first of their group."""
    stop: tuple[str, ...] = ()
    """Texts before which a free answer ends."""
    max_new_tokens: int = 256
    """Of a free answer."""
    answer_pattern: str = ""
    """Regular expression that finds the answer in a free text: its last match, its first group if there is one."""
    options: dict[str, Any] = field(default_factory=dict)
    """What scorers are made with, a table for each by its name."""
    judge: TaskJudge | None = None
    """The model that judges free answers: a metric of its own, "judge"."""
    groups: Literal["", "mean", "pooled"] = ""
    """Whether the whole is the mean over its groups, or over all samples."""
    licence: str = ""
    source: str = ""
    """Who made it: paper, address."""
    folder: str = ""
    """Where a user's own file lies: its data are sought there. Set when it is read."""

    def __post_init__(self) -> None:
        if self.name and not _NAME.fullmatch(self.name):  # files and links are called so
            raise ConfigError(f"{self.name!r:.80} is no name of a task", hint="letters, digits, blanks, - _ . + ( )")
        if self.columns is not None and self.columns.chosen != (self.kind == "choice"):
            raise ConfigError(f'{self.name}: columns of choices and kind = "choice" go together')
        known = METRICS[self.kind]
        if self.kind != "generation":
            for metric in self.metrics:
                if metric not in known:
                    raise ConfigError(f"{self.name}: no metric {metric!r} of {self.kind}", hint=nearest(metric, known))
        if self.judge is not None and self.kind != "generation":
            raise ConfigError(f"{self.name}: a judge judges free answers", hint='kind = "generation", or no [judge]')
        if JUDGE in self.metrics and self.judge is None:
            raise ConfigError(f'{self.name}: the metric "judge" needs a judge', hint='[judge] with model = "..."')
        if self.few_shot < 0 or self.max_new_tokens < 1:
            raise ConfigError(f"{self.name}: few_shot is 0 or more, max_new_tokens 1 or more")

    @property
    def measured(self) -> tuple[str, ...]:
        """The metrics: those that are named, or those that the kind has."""
        named = self.metrics or {"choice": METRICS["choice"][:2]}.get(self.kind, METRICS[self.kind])
        if self.judge is not None:
            return (*(one for one in named if one != JUDGE), JUDGE)
        return named or ("exact_match",)

    @property
    def scored(self) -> bool:
        """Whether texts are scored, or else written."""
        return self.kind != "generation"


def built_in() -> dict[str, Path]:
    """The files of the tasks that are here, by name."""
    return {path.stem: path for path in sorted(HERE.glob("*.toml"))}


def read_task(path: str | Path) -> Task:
    """A task's TOML file. ConfigError, with the file, for what is wrong in it."""
    path = Path(path)
    values = read_toml(path, missing="no such task:")
    found: dict[str, Any] = {}
    if "file" in values:  # the one line that a task needs
        own = path.parent / str(values["file"])
        if not {"kind", "layouts", "columns"} & set(values) and own.is_file():
            kind, columns = reading(own)
            found = {"kind": kind, "columns": columns}
        values = {**values, "data": {"files": [values["file"]], **values.get("data", {})}}
        del values["file"]
    if isinstance(told := values.get("columns"), Mapping) and "kind" not in values:
        values = {**values, "kind": "choice" if {"choices", "wrong"} & set(told) else "generation"}
    try:
        task = from_dict(Task, {**values, **({"kind": found["kind"]} if found else {})})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from None
    name = task.name or path.stem
    folder = "" if path.resolve().parent == HERE else str(path.resolve().parent)
    if found:
        task = replace(task, columns=found["columns"])
    return replace(task, name=name, title=task.title or name, folder=folder)


def find_task(reference: str | Path | Mapping[str, Any]) -> Task:
    """A built-in task by name, a TOML file, or a data file of rows that people write themselves.

    ConfigError, with the nearest name, for one that there is not.
    """
    if isinstance(reference, Mapping):
        return from_dict(Task, reference)
    text = str(reference)
    known = built_in()
    if text in known:
        return read_task(known[text])
    path = Path(text).expanduser()
    if path.suffix.lower() == ".toml":
        return read_task(path)
    if path.is_file():
        return own_task(path)
    if path.is_dir():
        raise ConfigError(f"{text!r:.80} is a folder", hint="a task is one file: JSONL, CSV or TOML")
    if path.suffix or "/" in text:
        raise ConfigError(f"there is no file {text!r:.80}", hint="check the spelling")
    raise ConfigError(f"no task {text!r:.80}", hint=nearest(text, known))


def own_task(path: Path) -> Task:
    """A file of a person's own rows: what the first one's columns say. ConfigError where they say half of it."""
    kind, columns = reading(path)
    data = TaskData(files=(path.name,))
    name, folder = path.name.split(".")[0], str(path.resolve().parent)
    return Task(name=name, title=path.name, kind=kind, columns=columns, data=data, folder=folder)


def reading(path: Path) -> tuple[Kind, Columns | None]:
    """What a file's first row is: texts, a choice, or a question with a free answer; and by which columns."""
    from bloomery.evaluate.tasks.rows import read_rows

    first = next(iter(read_rows(path)), None)
    row = first.values if first is not None else {}
    if set(row) == {"text"}:
        return "text", None
    if "sentence_good" in row:
        return "choice", None
    columns = columns_of(row, path.name)
    chosen = "choices" in row if columns is None else columns.chosen
    return ("choice" if chosen else "generation"), columns
