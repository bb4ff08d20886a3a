"""Synthesis prompts: what a model is asked to write, drawn by a seed, and how its answer is read.

    kind = "documents"                                  # documents, questions, instructions
    prompt = "Write a text message of a {who} about {topic}."
    count = 200
    [slots]
    who = ["parent", "shop"]
    topic = ["dinner", "a late train"]

documents: the prompt with a word for each slot; the answer is the text. questions: one about each document of a corpus,
as JSON with question and answer. instructions: new ones like those shown, some of `seeds` and some that were made
before, as Self-Instruct does it (Wang et al. 2022, arXiv 2212.10560), as JSON with instruction, input and output. This
module does not know who answers, nor what becomes of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from bloomery.core.config import from_dict
from bloomery.core.errors import ConfigError, DataError, nearest
from bloomery.core.messages import ChatOptions, Message
from bloomery.core.toml_file import read_toml
from bloomery.corpus.document import Document, readable

Kind = Literal["documents", "questions", "instructions"]
_SLOT = re.compile(r"\{(\w+)\}")
_MAX_CHARACTERS = 1_000_000
_DEFAULTS: dict[str, str] = {
    "questions": "Read the text between the marks. Write one question that it answers, and the answer, in one sentence"
    " each. The question has to make sense to somebody who has not read the text.",
    "instructions": "These are tasks for an assistant, each with its input, where it needs one, and its output. Write"
    " one more of another sort, as different as they are from each other.",
}
FIELDS: dict[str, tuple[str, ...]] = {
    "documents": (),
    "questions": ("question", "answer"),
    "instructions": ("instruction", "input", "output"),
}
"""The texts of an answer in JSON, by kind."""


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """A task with its answer, to begin with."""

    instruction: str
    output: str
    input: str = ""


@dataclass(frozen=True, kw_only=True)
class SynthesisConfig:
    """What is written, and how. See the module."""

    kind: Kind
    """documents, questions or instructions."""
    prompt: str = ""
    """What the model is told; only documents need it."""
    slots: dict[str, Any] = field(default_factory=dict)
    """Lists of texts, one of each of which takes the place of {name} in the prompt."""
    seeds: tuple[Instruction, ...] = ()
    """Instructions to begin with."""
    count: int = 100
    """Records to make."""
    attempts_per_record: float = 3.0
    """Answers to ask for at most, for each record."""
    seed: int = 0
    """Of everything that is drawn; each answer's own seed follows from it."""
    temperature: float = 1.0
    """Of the sampling."""
    top_p: float | None = None
    """Only the most probable tokens that make up this share."""
    max_new_tokens: int = 512
    """Of an answer; what does not end within it is left out."""
    shown_seeds: int = 3
    """Instructions of `seeds` that a prompt shows."""
    shown_made: int = 2
    """Instructions made before that a prompt shows."""
    max_document_characters: int = 8000
    """Of a document that a question is about; longer ones are cut to their beginning."""
    similarity: float = 0.7
    """A text as similar as this to one before it (ROUGE-L) is left out; 1.01 keeps all but copies."""
    num_words: int = 13
    """A record that shares a run of so many words with a held-out text is left out."""
    validation_fraction: float = 0.05
    """Share of the validation split."""
    test_fraction: float = 0.0
    """Share of the test split."""

    def __post_init__(self) -> None:
        if not self.prompt and self.kind == "documents":
            raise ConfigError("what is to be written?", hint='prompt = "Write a text about {topic}."')
        if (self.kind == "instructions") != bool(self.seeds):
            what = "need" if self.kind == "instructions" else "take no"
            raise ConfigError(f"{self.kind} {what} seeds", hint="[[seeds]] with instruction and output")
        for name, values in self.slots.items():
            if not isinstance(values, list) or not values or not all(isinstance(one, str) for one in values):
                raise ConfigError(f'the slot "{name}" should be a list of texts')
        for name in _SLOT.findall(self.prompt):
            if name not in self.slots:
                raise ConfigError(f"nothing is said of the slot {{{name}}}", hint=nearest(name, self.slots))
        limits = {"count": (1, 10_000_000), "attempts_per_record": (1, 1000), "shown_seeds": (1, 20)}
        limits |= {"shown_made": (0, 20), "similarity": (0.1, 1.01), "max_document_characters": (100, 1_000_000)}
        limits |= {"validation_fraction": (0, 0.5), "test_fraction": (0, 0.4), "seed": (0, 2**31 - 1)}
        for key, (low, high) in limits.items():
            if not low <= getattr(self, key) <= high:
                raise ConfigError(f'"{key}" is {getattr(self, key)}, but should be from {low:,} to {high:,}')


class Attempt(NamedTuple):
    """What is asked, and the document that it is about, if any."""

    messages: tuple[Message, ...]
    options: ChatOptions
    about: Document | None


def read_synthesis(path: str | Path) -> SynthesisConfig:
    """ConfigError naming the file."""
    table = read_toml(path)
    try:
        return from_dict(SynthesisConfig, table, where="")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from error


def attempt(config: SynthesisConfig, number: int, made: Sequence[Document], documents: Sequence[Document]) -> Attempt:
    """The `number`-th thing to ask; `made` are records of rounds before. Equal arguments give equal prompts."""
    rng = np.random.Generator(np.random.PCG64([config.seed, number]))
    words = {name: values[int(rng.integers(len(values)))] for name, values in config.slots.items()}
    asked = _SLOT.sub(lambda found: words[found[1]], config.prompt or _DEFAULTS[config.kind])
    about = None
    if config.kind == "questions":
        about = documents[number % len(documents)]
        text = about.text[: config.max_document_characters]
        asked += f"\n\n<text-{about.id}>\n{text}\n</text-{about.id}>"
    elif config.kind == "instructions":
        shown = [_example(one) for one in _drawn(rng, config.seeds, config.shown_seeds)]
        shown += [_example(_instruction(one)) for one in _drawn(rng, made, config.shown_made)]
        rng.shuffle(shown)
        asked += "\n\n" + "\n".join(shown)
    if names := FIELDS[config.kind]:
        asked += "\n\nAnswer with a JSON object with the texts " + ", ".join(names) + "."
    options = ChatOptions(
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        seed=(config.seed * 1_000_003 + number) % 2**31,
        schema=_schema(FIELDS[config.kind]),
    )
    return Attempt(({"role": "user", "content": asked},), options, about)


def read_record(config: SynthesisConfig, text: str) -> tuple[str, dict[str, str]]:
    """The record's text and its other texts. DataError for an answer that is none."""
    names = FIELDS[config.kind]
    if not names:
        if not text.strip():
            raise DataError("the answer is empty")
        return readable(text.strip()), {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise DataError("the answer is no JSON") from None
    if not isinstance(value, dict) or set(value) != set(names):
        raise DataError("the answer has not the texts " + ", ".join(names))
    texts = {name: value[name] for name in names}
    needed = [name for name in names if name != "input"]
    if not all(isinstance(one, str) and len(one) <= _MAX_CHARACTERS for one in texts.values()):
        raise DataError("the answer's values are no texts")
    if not all(texts[name].strip() for name in needed):
        raise DataError("a text of the answer is empty")
    clean = {name: readable(one.strip()) for name, one in texts.items()}
    if config.kind == "questions":
        return clean["question"], {"answer": clean["answer"]}
    joined = "\n\n".join(one for one in (clean["instruction"], clean["input"]) if one)
    return joined, clean


def _schema(names: Sequence[str]) -> dict[str, Any] | None:
    if not names:
        return None
    properties = {name: {"type": "string"} for name in names}
    return {"type": "object", "properties": properties, "required": list(names), "additionalProperties": False}


def _drawn(rng: np.random.Generator, values: Sequence[Any], number: int) -> list[Any]:
    places = rng.choice(len(values), min(number, len(values)), replace=False) if values else ()
    return [values[int(place)] for place in places]


def _example(one: Instruction) -> str:
    return json.dumps({"instruction": one.instruction, "input": one.input, "output": one.output}, ensure_ascii=False)


def _instruction(made: Document) -> Instruction:
    return Instruction(**{name: made.metadata[name] for name in FIELDS["instructions"]})
