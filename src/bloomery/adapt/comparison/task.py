"""Task: what `bloomery compare` is asked, as one TOML file read strictly.

    name = "sms-spam"
    samples = "messages.jsonl"          # or .csv, .tsv; a path beside this file
    input = "text"
    target = "label"
    choices = ["ham", "spam"]
    [[model]]
    name = "model-0123456789ab"

Paths are relative to the file. This module does not know arms, nor how samples are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from bloomery.core.config import from_dict, parse_scalar
from bloomery.core.errors import ConfigError, nearest
from bloomery.core.toml_file import read_toml

ARMS = (
    "majority",
    "classic",
    "zero-shot",
    "few-shot",
    "chain-of-thought",
    "self-consistency",
    "rag",
    "long-context",
    "lora",
    "rag-lora",
)
"""Every arm that there is, the simplest first: where nothing else tells two apart, the earlier is recommended."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A model that the arms ask or adapt."""

    name: str
    """An artifact's name or id, a folder, a hub id; with an endpoint its name there."""
    label: str = ""
    """What reports call it; needed only where two models have one name."""
    endpoint: str = ""
    """Address of an OpenAI-compatible server, up to /v1; "": the model is opened here."""
    key_variable: str = ""
    """Environment variable with the endpoint's key."""
    key_file: str = ""
    """File with the endpoint's key."""
    context_tokens: int = 8192
    """What an endpoint's model reads at most; of one that is opened here it is known."""
    structure: Literal["json_schema", "structured_outputs", "prompt"] = "json_schema"
    """How the endpoint is held to choices; "prompt": by words alone."""
    ask: Literal["auto", "chat", "plain"] = "auto"
    """Through its chat template, or as one text that it continues; auto: plain where there is no template, or where the
    model is one of ours that was pretrained and nothing else."""
    input_price: float | None = None
    """Money for a million tokens that it reads; None: not counted in money."""
    output_price: float | None = None
    """Money for a million tokens that it writes."""
    concurrency: int = 1
    """Questions under way at a time, the same in every arm: latencies are those under this load. A model that is opened
    here repeats itself to the last bit only with 1."""

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("which model?", hint='[[model]] needs "name": an artifact, a folder, or a name there')
        if not 1 <= self.concurrency <= 256:
            raise ConfigError(f'"model.concurrency" is {self.concurrency}, but should be from 1 to 256')
        if self.context_tokens < 64:
            raise ConfigError(f'"model.context_tokens" is {self.context_tokens}, but should be 64 or more')
        for name in ("input_price", "output_price"):
            if (getattr(self, name) or 0.0) < 0:
                raise ConfigError(f'"model.{name}" cannot be negative')
        if (self.input_price is None) != (self.output_price is None):
            raise ConfigError("prices are two: what is read and what is written", hint="input_price and output_price")
        if not self.endpoint and (self.key_variable or self.key_file):
            raise ConfigError("a key is an endpoint's", hint='endpoint = "http://127.0.0.1:8000/v1"')

    @property
    def called(self) -> str:
        """What reports call it."""
        return self.label or Path(self.name).name


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Shares by content hash: an item stays where it is when others come; then at most so many of each part."""

    dev: float = 0.2
    """Share that arms are chosen by."""
    test: float = 0.3
    """Share that is answered once, at the end."""
    max_train: int = 0
    """Items at most; 0: all."""
    max_dev: int = 200
    """Items at most; 0: all."""
    max_test: int = 0
    """Items at most; 0: all."""

    def __post_init__(self) -> None:
        if not (0 < self.dev < 1 and 0 < self.test < 1 and self.dev + self.test < 1):
            raise ConfigError("dev and test are shares above 0, and leave something to train on", hint="0.2 and 0.3")
        if min(self.max_train, self.max_dev, self.max_test) < 0:
            raise ConfigError("a number of items cannot be negative", hint="0 takes all")


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """What each arm may spend on tuning: the same limits for every arm; the first that is reached ends it."""

    processor_seconds: float | None = 300.0
    """Of a processor of 40 billion operations a second: counted (see `work`), not measured, so that a machine that
    does other things, too, tunes the same. An endpoint counts a second for 1,000 tokens read, or 50 written."""
    joules: float | None = None
    """Of this machine; only where they can be measured or estimated, and then another day may tune a little more or
    less."""
    tokens: int | None = None
    """Read and written by the model, kept answers and training included."""

    def __post_init__(self) -> None:
        given = [self.processor_seconds, self.joules, self.tokens]
        if any(value is not None and value <= 0 for value in given):
            raise ConfigError("a budget is more than 0", hint="leave an arm out that should cost nothing")
        if all(value is None for value in given):
            raise ConfigError("every arm needs one budget", hint="[budget] processor_seconds = 300")


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """A task and what is compared on it. ConfigError for a value out of range."""

    samples: str
    """JSON lines, CSV or TSV (.xz and .gz too): one question a row."""
    model: tuple[ModelConfig, ...] = ()
    """Models that are compared; none: only the arms that need none."""
    name: str = "task"
    """Stands in reports."""
    input: str = "input"
    """Column of the question."""
    target: str = "target"
    """Column of the right answer: a text, a list of texts that are each right, or the number of a choice."""
    columns: tuple[str, ...] = ()
    """Columns of numbers, which classic models read instead of the text; where a row has no text, models that read are
    shown these: "amount 12.5, night 1"."""
    choices: tuple[str, ...] = ()
    """Answers to choose from, the same for every question."""
    choices_column: str = ""
    """Column with each question's own choices, a list."""
    cluster: str = ""
    """Column of what questions share (a passage, a person): these stay in one part and are not independent."""
    rubric: str = ""
    """Column of what a good answer does, for metrics that judge."""
    context: str = ""
    """Column of a text that stands before the question and is shown to every arm; retrieval looks for the question."""
    documents: str = ""
    """A folder or JSON lines of documents for the arms that read; "": those are left out."""
    embedder: str = ""
    """What the arms that search documents find by meaning with, too: "minilm", an encoder's folder, artifact or hub id;
    "": by words alone."""
    instruction: str = ""
    """What is to be done, in a sentence or two: every prompt begins with it."""
    metric: str = "exact"
    """What an answer is worth: the scorer by which arms are tuned and compared; "judge" is a model, [judge]."""
    judge: ModelConfig | None = None
    """The model that judges, by the rubric's column or by whether the answer is right and complete."""
    arms: tuple[str, ...] = ()
    """Which arms; none: all that fit the task."""
    seed: int = 0
    """Of the split, of what is drawn, of sampling and resampling."""
    alpha: float = 0.05
    """How often "is better" may be said where there is no difference."""
    requests: int = 10_000
    """Answers that the winner is going to give: spreads the cost of training."""
    label_price: float | None = None
    """Money for one label of the train and dev parts; None: not counted."""
    price_per_kwh: float | None = None
    """Money for a kilowatt-hour of this machine; None: not counted."""
    currency: str = ""
    """Of every price."""
    max_new_tokens: int = 64
    """Of an answer."""
    max_thinking_tokens: int = 256
    """Of an answer with the thinking before it."""
    frozen: str = ""
    """In the recipe of a winner: the digest of what it was frozen with; rebuilding says whether it came out again."""
    split: SplitConfig = field(default_factory=SplitConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)

    def __post_init__(self) -> None:
        for arm in self.arms:
            if arm not in ARMS:
                raise ConfigError(f'unknown arm "{arm}"', hint=nearest(arm, ARMS))
        if len(set(self.arms)) != len(self.arms):
            raise ConfigError("an arm is named twice")
        if self.choices and self.choices_column:
            raise ConfigError('"choices" are the same for all, "choices_column" each question\'s own: give one')
        if len(set(self.columns)) != len(self.columns):
            raise ConfigError("a column is named twice")
        if not 0 < self.alpha < 0.5:
            raise ConfigError(f'"alpha" is {self.alpha}, but should be between 0 and 0.5')
        if min(self.requests, self.max_new_tokens, self.max_thinking_tokens) < 1:
            raise ConfigError('"requests" and limits of tokens are 1 at least')
        if (self.metric == "judge") != (self.judge is not None):
            raise ConfigError('metric = "judge" and a table [judge] go together', hint='[judge] with a "name"')
        names = [one.called for one in self.model]
        if len(set(names)) != len(names):
            raise ConfigError("two models have one name", hint='give each a "label"')
        prices = (self.label_price, self.price_per_kwh)
        if any(value is not None and value < 0 for value in prices):
            raise ConfigError("a price cannot be negative")


@dataclass(frozen=True)
class Task:
    """A config with its paths made absolute, and the file that it came from."""

    config: TaskConfig
    path: Path | None = None


def read_task(path: str | Path, overrides: Sequence[str] = ()) -> Task:
    """Read a task file and apply `key=value` overrides in order ("samples=x.jsonl", "budget.tokens=9", "model=NAME").

    ConfigError naming the file, the key or the override.
    """
    path = Path(path)
    values = read_toml(path, missing="no task at", hint="recipes/ holds some: compare_*.toml")
    for override in overrides:
        _apply(values, override)
    if isinstance(values.get("model"), Mapping):
        values["model"] = [values["model"]]
    try:
        config = from_dict(TaskConfig, values)
    except ConfigError as error:
        raise ConfigError(f"{error.message} in {path}", hint=error.hint) from error
    return Task(_anchored(config, path.resolve().parent), path)


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise ConfigError(f'--set takes key=value, not "{override}"', hint="--set budget.processor_seconds=60")
    value = parse_scalar(text.strip())
    if names == ["model"] and isinstance(value, str):
        values["model"] = [{**_first(values), "name": value}]
        return
    if names == ["samples"] or names == ["documents"]:
        value = str(Path(str(value)).expanduser().absolute()) if value else value
    target = values
    for name in names[:-1]:
        target = target.setdefault(name, {}) if isinstance(target, dict) else target
        if isinstance(target, list) and len(target) == 1:
            target = target[0]
    if not isinstance(target, dict):
        raise ConfigError(f'"{key}" is not inside a table', hint="--set table.key=value")
    target[names[-1]] = value


def _first(values: Mapping[str, Any]) -> dict[str, Any]:
    told = values.get("model")
    told = told[0] if isinstance(told, list) and told else told
    return dict(told) if isinstance(told, Mapping) else {}


def _anchored(config: TaskConfig, folder: Path) -> TaskConfig:
    """Paths that are there beside the file become absolute; a model's name stays what it is where it is no folder."""

    def absolute(name: str) -> str:
        return str(folder / Path(name).expanduser()) if name else ""

    models = tuple(
        replace(one, name=absolute(one.name)) if not one.endpoint and (folder / one.name).is_dir() else one
        for one in config.model
    )
    embedder = config.embedder
    embedder = absolute(embedder) if embedder and (folder / embedder).is_dir() else embedder
    paths = {"samples": absolute(config.samples), "documents": absolute(config.documents), "embedder": embedder}
    return replace(config, **paths, model=models)
