"""What the verbs of `bloomery prompt` share: the prompt, the samples, the model and how it is put to it.

This module does not know what is done with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter, validators

from bloomery.core.errors import ConfigError

if TYPE_CHECKING:
    from bloomery.adapt.prompts import PromptTemplate, StrategyConfig
    from bloomery.core.messages import ChatModel
    from bloomery.core.workspace import Workspace
    from bloomery.evaluate.sample import Answerer, Sample, Scorer
    from bloomery.evaluate.subject import Opened

PromptName = Annotated[
    str, Parameter(help="A prompt: a TOML file, an artifact of `prompt optimise`, or a name of the library.")
]
SamplesFile = Annotated[Path, Parameter(help="Labelled samples: JSONL or CSV with input, target, choices, split.")]
ModelName = Annotated[
    str, Parameter(help="A model: artifact name or id, Hugging Face folder, hub id, or http://HOST/v1#NAME.")
]
ScorerName = Annotated[str, Parameter(help="exact, choice, numeric, f1, ... [default: exact].")]
How = Literal["direct", "thought", "votes", "routed", "parts", "likelihood"]


@Parameter(name="*")
@dataclass(kw_only=True)
class AskingOptions:
    """How a prompt is put to a model."""

    how: Annotated[
        How,
        Parameter(help="thought: thinks first; votes: most of several; routed: votes if sure; likelihood: scored."),
    ] = "direct"
    chat: Annotated[bool, Parameter(help="Through the model's chat template, or as a text that it continues.")] = True
    votes: Annotated[int, Parameter(help="Of votes and routed.", validator=validators.Number(gte=1, lte=1000))] = 8
    seed: Annotated[int, Parameter(help="Of what is drawn.")] = 0
    concurrency: Annotated[
        int, Parameter(help="Samples under way at a time.", validator=validators.Number(gte=1, lte=256))
    ] = 4

    def strategy(self) -> StrategyConfig:
        from bloomery.adapt.prompts import StrategyConfig

        if self.how == "likelihood":
            raise ConfigError("a likelihood draws nothing", hint="--how direct")
        return StrategyConfig(kind=self.how, votes=self.votes, seed=self.seed, plain=not self.chat)

    def answerer(self, template: PromptTemplate, opened: Opened, train: list[Sample]) -> Answerer:
        """ConfigError where the model cannot be asked so."""
        from bloomery.adapt.prompts import open_strategy
        from bloomery.adapt.prompts.by_likelihood import open_likelihood

        subject = opened.subject
        if self.how == "likelihood":
            if subject.likelihoods is None:
                raise ConfigError(f"{subject.name} tells no likelihoods", hint="--how direct")
            return open_likelihood(template, subject.likelihoods, train=train)
        return open_strategy(template, chat_of(opened), self.strategy(), train=train)


@contextmanager
def opened_model(model: str, workspace: Workspace, asking: AskingOptions) -> Iterator[Opened]:
    """The model, closed afterwards."""
    from bloomery.evaluate.subject import open_subject

    reference = model or str(workspace.latest("model").path)
    opened = open_subject(reference, workspace=workspace, chat=asking.chat, concurrency=asking.concurrency)
    try:
        yield opened
    finally:
        opened.close()


def chat_of(opened: Opened) -> ChatModel:
    if opened.subject.chat is None:
        raise ConfigError(f"{opened.subject.name} cannot be asked")
    return opened.subject.chat


def find_prompt(reference: str, workspace: Workspace) -> PromptTemplate:
    """Of a file, a folder, the library, or an artifact of the workspace."""
    from bloomery.adapt.prompts import library_prompts, read_prompt

    if not Path(reference).exists() and reference not in library_prompts() and workspace.matching(reference):
        return read_prompt(workspace.find(reference, kind="prompt").path)
    return read_prompt(reference)


def find_scorer(name: str) -> Scorer:
    from bloomery.evaluate.scorers import make_scorer

    return make_scorer(name or "exact", where="--scorer")
