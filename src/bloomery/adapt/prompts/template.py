"""Prompt template: a versioned prompt in TOML, its parts in Jinja, and what is read from the answer.

    name = "sentiment"
    version = 2
    instruction = "Is the review positive or negative?"
    user = "{{ instruction }}\\n\\n{{ input }}"
    [answer]
    take = "choice"

`system`, `user` and `assistant` make the messages of a chat; `plain` makes one text for models that only continue one.
Templates run in the tokenizer's sandbox. They see `input`, `choices` (each with `name` and `text`), `examples`,
`passages`, `instruction`, `metadata`, and what a strategy adds. This module does not know models or how examples are
chosen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from bloomery.adapt.prompts.answer_rule import AnswerRule
from bloomery.core.config import digest, from_dict, to_dict
from bloomery.core.errors import ConfigError, nearest
from bloomery.core.messages import ChatOptions, Message
from bloomery.core.toml_file import read_toml
from bloomery.evaluate.sample import Sample
from bloomery.tokenizer.sandbox import RefusedError, TemplateSandbox

_LIBRARY = resources.files("bloomery.adapt.prompts") / "library"
_PLACE = "\ufdd0answer\ufdd0"  # a noncharacter: stands in no text
PARTS = ("system", "user", "assistant", "plain", "finish")
_MAYBE = frozenset({"answer", "thinking", "stage", "parts", "part"})
"""What some strategies and parts add: nothing where they do not. Any other name that is not given is a mistake."""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """An example that the prompt itself holds."""

    input: str
    answer: str
    """As the task tells it: a choice's text, not its letter."""
    thinking: str = ""
    """How one comes to the answer, for templates that show it."""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ExampleSettings:
    """How many examples a prompt shows, and which."""

    count: int = 0
    """0: none (zero-shot)."""
    how: Literal["fixed", "nearest", "diverse", "spread"] = "fixed"
    """fixed: the prompt's own shots, or drawn once from the training samples, as many of each answer; nearest: the most
    similar to each question; diverse: similar to it and unlike each other (MMR); spread: the same ones for all, far
    from each other (k-centre)."""
    similarity: Literal["words", "embeddings"] = "words"
    """Of nearest, diverse and spread: TF-IDF of words, or an encoder's vectors."""
    balance: float = 0.5
    """Of diverse: 1 is nearest alone, 0 unlikeness alone."""
    as_turns: bool = True
    """Each as a question and an answer before the question; otherwise the template's `examples`."""
    seed: int = 0
    """Of what is drawn."""

    def __post_init__(self) -> None:
        if not 0 <= self.count <= 1000 or not 0 <= self.balance <= 1:
            raise ConfigError('"examples.count" is from 0 to 1,000, "examples.balance" from 0 to 1')


@dataclass(frozen=True, kw_only=True)
class AskingOptions:
    """How the answer is drawn."""

    max_new_tokens: int = 64
    """Tokens at most."""
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float | None = None
    """Only the most probable tokens that make up this share."""
    stop: tuple[str, ...] = ()
    """Texts before which an answer ends."""

    def __post_init__(self) -> None:
        self.chat()

    def chat(self, **changes: Any) -> ChatOptions:
        """As a model takes them."""
        return replace(
            ChatOptions(
                max_new_tokens=self.max_new_tokens, temperature=self.temperature, top_p=self.top_p, stop=self.stop
            ),
            **changes,
        )


@dataclass(frozen=True, kw_only=True)
class PromptTemplate:
    """See the module. ConfigError for a template that does not compile."""

    name: str
    version: int = 1
    """Raised by whoever changes it; `content_hash` tells what nobody raised."""
    description: str = ""
    instruction: str = ""
    """What is to be done, in words: the part that an optimiser may rewrite."""
    system: str = ""
    user: str = "{% if instruction %}{{ instruction }}\n\n{% endif %}{{ input }}"
    assistant: str = "{{ answer }}"
    """How an example is answered; sees `answer` and `thinking`."""
    plain: str = ""
    """The whole prompt as one text, which the answer continues; "": the other parts, one after the other."""
    finish: str = "Therefore, the answer is"
    """Asked where thinking ended without an answer."""
    answer: AnswerRule = field(default_factory=AnswerRule)
    examples: ExampleSettings = field(default_factory=ExampleSettings)
    options: AskingOptions = field(default_factory=AskingOptions)
    shots: tuple[Shot, ...] = ()
    """Examples that the prompt brings along."""

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable() or len(self.name) > 100:
            raise ConfigError(f'"name" of a prompt is 1 to 100 printable characters, not {self.name!r:.60}')
        if self.version < 1:
            raise ConfigError(f'"version" is {self.version}, but should be 1 or more')
        for part in PARTS:
            _compiled(self.name, part, getattr(self, part))

    @cached_property
    def content_hash(self) -> str:
        """64 hex digits over all that decides what a model is asked and what is read from its answer."""
        told = to_dict(self)
        return digest({key: value for key, value in told.items() if key not in ("name", "version", "description")})

    @property
    def identity(self) -> str:
        """`name@version#hash`, short enough for a report."""
        return f"{self.name}@{self.version}#{self.content_hash[:8]}"

    def messages(self, sample: Sample, examples: Sequence[Sample] = (), **more: Any) -> list[Message]:
        """The chat in which the sample is asked: its targets are never seen. ConfigError naming the part that fails."""
        variables = self._variables(sample, examples, more)
        messages: list[Message] = []
        if system := self._render("system", variables).strip():
            messages.append({"role": "system", "content": system})
        for example in examples if self.examples.as_turns else ():
            messages.append({"role": "user", "content": self._render("user", self._variables(example, (), more))})
            messages.append({"role": "assistant", "content": self._shown_answer(example)})
        messages.append({"role": "user", "content": self._render("user", variables)})
        return messages

    def text(self, sample: Sample, examples: Sequence[Sample] = (), **more: Any) -> str:
        """The same as one text that the answer continues: without white space at its end, which most tokenizers
        have at the beginning of a word."""
        variables = self._variables(sample, examples, more)
        if self.plain:
            return self._render("plain", variables).rstrip()
        blocks = [self._render("system", variables).strip()]
        for example in examples if self.examples.as_turns else ():
            question = self._render("user", self._variables(example, (), more))
            blocks.append(f"{question.strip()}\n{self._shown_answer(example).strip()}")
        begun = self._render("assistant", {**variables, "answer": _PLACE, "thinking": ""}).partition(_PLACE)[0]
        blocks.append(f"{self._render('user', variables).strip()}\n{begun}".strip())
        return "\n\n".join(block for block in blocks if block)

    def continuations(self, choices: Sequence[str]) -> tuple[str, ...]:
        """What each choice is after `text`, with the space that stood there."""
        return tuple(f" {name}" for name in self.answer.names(choices))

    def chat_options(self, sample: Sample, **changes: Any) -> ChatOptions:
        """How the sample is asked; held to choices or a schema where the rule says so."""
        held: dict[str, Any] = {}
        if self.answer.constrained:
            held["choices"] = self.answer.names(sample.choices)
        elif self.answer.schema:
            held["schema"] = self.answer.schema
        return self.options.chat(**{**held, **changes})

    def names(self, variable: str) -> bool:
        """Whether a part of it shows this variable."""
        return any(variable in _compiled(self.name, part, getattr(self, part)).names for part in PARTS)

    def finishing(self, sample: Sample) -> str:
        """What is asked after thinking that ended without an answer."""
        return self._render("finish", self._variables(sample, (), {}))

    def _shown_answer(self, example: Sample) -> str:
        shown = self._example(example)
        return self._render("assistant", {**self._variables(example, (), {}), **shown})

    def _example(self, sample: Sample) -> dict[str, Any]:
        if not sample.targets:
            raise ConfigError(f"sample {sample.id!r:.60} has no answer to show", hint="examples are labelled samples")
        names = dict(zip(sample.choices, self.answer.names(sample.choices), strict=True))
        target = sample.targets[0]
        thinking = str(sample.metadata.get("thinking", ""))
        return {"answer": names.get(target, target), "thinking": thinking}

    def _variables(self, sample: Sample, examples: Sequence[Sample], more: Mapping[str, Any]) -> dict[str, Any]:
        shown = [{**self._asked(example), **self._example(example)} for example in examples]
        passages = sample.metadata.get("passages", ())
        return {**self._asked(sample), "examples": shown, "passages": passages, "instruction": self.instruction, **more}

    def _asked(self, sample: Sample) -> dict[str, Any]:
        names = self.answer.names(sample.choices)
        pairs = [{"name": name, "text": text} for name, text in zip(names, sample.choices, strict=True)]
        return {"input": sample.input, "choices": pairs, "metadata": dict(sample.metadata)}

    def _render(self, part: str, variables: Mapping[str, Any]) -> str:
        compiled = _compiled(self.name, part, getattr(self, part))
        if unknown := sorted(compiled.names - _MAYBE - variables.keys()):  # Jinja would write nothing for it
            hint = nearest(unknown[0], sorted(_MAYBE | variables.keys()))
            raise ConfigError(f'prompt {self.name}: "{part}" names {unknown[0]!r:.40}, which is not given', hint=hint)
        try:
            return compiled.render(**variables)
        except RefusedError as error:
            raise ConfigError(f'prompt {self.name}: "{part}" fails: {error}') from error

    def to_toml(self) -> str:
        """The file that `read_prompt` reads as the same prompt."""
        return toml_of(_told(self))


@lru_cache(maxsize=512)
def _compiled(name: str, part: str, source: str) -> TemplateSandbox:
    try:
        return TemplateSandbox(source)
    except RefusedError as error:
        raise ConfigError(f'prompt {name}: "{part}" is no template: {error}', hint="Jinja: {{ input }}") from error


def read_prompt(reference: str | Path) -> PromptTemplate:
    """A prompt of a TOML file, of a folder that holds prompt.toml (an artifact), or of the library by its name.

    ConfigError for what is none.
    """
    path = Path(reference)
    if path.suffix != ".toml" and str(reference) in library_prompts():
        source = _LIBRARY / f"{reference}.toml"
        with resources.as_file(source) as there:
            return _read(read_toml(there))
    if path.is_dir():
        path = path / "prompt.toml"
    if path.suffix != ".toml":
        raise ConfigError(f"no prompt {str(reference)!r:.80}", hint=nearest(str(reference), library_prompts()))
    return _read(read_toml(path, missing="no prompt at", hint="a TOML file with name and user"))


def is_templated(text: str) -> bool:
    """Whether it has marks of a template: an instruction is words, which go to the model as they stand."""
    return "{{" in text or "{%" in text


def _read(told: dict[str, Any]) -> PromptTemplate:
    made = from_dict(PromptTemplate, told, where="")
    if is_templated(made.instruction):
        raise ConfigError(
            f'prompt {made.name}: "instruction" is plain words, but has template marks ({{{{ or {{%)',
            hint='put them in "user", where {{ instruction }} stands for these words',
        )
    return made


def library_prompts() -> tuple[str, ...]:
    """Names of the prompts that come with the package."""
    return tuple(sorted(one.name.removesuffix(".toml") for one in _LIBRARY.iterdir() if one.name.endswith(".toml")))


def _told(template: PromptTemplate) -> dict[str, Any]:
    """Only what differs from the defaults, so that a file stays readable."""
    plain = PromptTemplate(name=template.name)
    told: dict[str, Any] = {"name": template.name, "version": template.version}
    for key, value in to_dict(template).items():
        usual = to_dict(plain)[key]
        if isinstance(value, dict):
            value = {name: one for name, one in value.items() if one != usual[name] and one is not None}
        if key not in told and value and value != usual:
            told[key] = value
    if "user" not in told and not template.user:
        told["user"] = ""
    return told


def toml_of(value: Mapping[str, Any]) -> str:
    """Plain data as TOML: scalars and lists first, then tables, then lists of tables. None cannot be told."""
    lines: list[str] = []
    tables = {key: one for key, one in value.items() if isinstance(one, Mapping)}
    lists = {
        key: one
        for key, one in value.items()
        if isinstance(one, (list, tuple)) and one and all(isinstance(item, Mapping) for item in one)
    }
    for key, one in value.items():
        if key not in tables and key not in lists:
            lines.append(f"{_key(key)} = {_toml_value(one)}")
    for key, table in tables.items():
        lines.append(f"\n[{_key(key)}]")
        lines += [f"{_key(name)} = {_toml_value(one)}" for name, one in table.items()]
    for key, rows in lists.items():
        for row in rows:
            lines.append(f"\n[[{_key(key)}]]")
            lines += [f"{_key(name)} = {_toml_value(one)}" for name, one in row.items()]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else _toml_value(name)


def _toml_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(name)} = {_toml_value(one)}" for name, one in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    # JSON's strings, numbers and booleans are TOML's, but for a DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")
