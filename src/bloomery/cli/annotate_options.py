"""What the verbs of `bloomery annotate` share: questions, documents, the store, and the model that is asked.

This module does not know what is annotated.
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
    from bloomery.core.artifact import Artifact
    from bloomery.core.endpoint import EndpointConfig
    from bloomery.core.messages import ChatModel
    from bloomery.core.workspace import Workspace
    from bloomery.corpus.annotation.question import Question
    from bloomery.corpus.annotation.store import Annotation, AnnotationStore
    from bloomery.corpus.document import Document

CorpusName = Annotated[str, Parameter(help="A corpus: name, id or folder [default: the latest].")]
QuestionName = Annotated[str, Parameter(help="A question: a TOML file, or the name or id of one that was asked.")]
Split = Annotated[Literal["train", "validation", "test", "all"], Parameter(help="Documents of this split.")]
Sample = Annotated[int, Parameter(help="So many documents [default: all].", validator=validators.Number(gte=0))]
Order = Annotated[
    Literal["random", "unsure"],
    Parameter(help="Which ones: drawn at random, or those whose label was the least probable so far."),
]
Seed = Annotated[int, Parameter(help="Makes what is drawn repeatable.")]
Annotators = Annotated[
    list[str] | None, Parameter(name="--by", negative=(), help="Answers of this annotator only. May be repeated.")
]
Kinds = Annotated[
    list[Literal["rules", "model", "person"]] | None,
    Parameter(negative=(), help="Answers of this kind of annotator only. May be repeated."),
]
Field = Annotated[str, Parameter(help="Metadata field that takes the label.")]
GoldField = Annotated[str, Parameter(help="Metadata field with labels that are right, to compare with.")]
GoldSplits = Annotated[
    list[Literal["train", "validation", "test"]] | None,
    Parameter(name="--gold-split", negative=(), help="Split whose documents get the gold label. May be repeated."),
]
MinProbability = Annotated[float, Parameter(help="Less probable labels are none.")]
_ALL = ("train", "validation", "test")


@Parameter(name="*")
@dataclass(kw_only=True)
class ModelOptions:
    """Which model is asked, and how."""

    model: Annotated[
        str,
        Parameter(help="A model: artifact name or id, Hugging Face folder, hub id; with --endpoint its name there."),
    ] = ""
    endpoint: Annotated[
        str, Parameter(help="OpenAI-compatible endpoint: its address up to /v1, or a TOML file with all about it.")
    ] = ""
    key_variable: Annotated[str, Parameter(help="Environment variable with the endpoint's key.")] = ""
    key_file: Annotated[str, Parameter(help="File with the endpoint's key.")] = ""
    structure: Annotated[
        Literal["json_schema", "structured_outputs", "prompt", ""],
        Parameter(help="How the endpoint is held to a form [default: json_schema]; prompt: by words alone."),
    ] = ""
    concurrency: Annotated[
        int, Parameter(help="Questions under way at a time.", validator=validators.Number(gte=1, lte=256))
    ] = 4

    @contextmanager
    def opened(self, workspace: Workspace) -> Iterator[ChatModel]:
        """The model, closed afterwards."""
        if self.endpoint:
            from bloomery.core.endpoint import Endpoint

            with Endpoint(self._endpoint()) as endpoint:
                yield endpoint
            return
        if self.key_variable or self.key_file or self.structure:
            raise ConfigError("keys and structure are an endpoint's", hint="--endpoint http://127.0.0.1:8000/v1")
        from bloomery.cli.generate import open_model
        from bloomery.engine.chat_model import EngineChat

        loaded = open_model(self.model, workspace)
        try:
            yield EngineChat(loaded)
        finally:
            loaded.close()

    def _endpoint(self) -> EndpointConfig:
        from bloomery.core.config import from_dict
        from bloomery.core.endpoint import EndpointConfig

        given = {"model": self.model, "key_variable": self.key_variable, "key_file": self.key_file}
        given = {name: value for name, value in {**given, "structure": self.structure}.items() if value}
        if not self.endpoint.endswith(".toml"):
            return from_dict(EndpointConfig, {"url": self.endpoint, "model": "", **given}, where="endpoint")
        from bloomery.core.toml_file import read_toml

        return from_dict(EndpointConfig, {**read_toml(self.endpoint), **given}, where="endpoint")


@contextmanager
def opened_store(workspace: Workspace) -> Iterator[AnnotationStore]:
    from bloomery.corpus.annotation.store import FILE, AnnotationStore

    with AnnotationStore(workspace.root / FILE) as store:
        yield store


def find_question(reference: str, store: AnnotationStore) -> Question:
    """Of a file, or one that was asked before."""
    from bloomery.corpus.annotation.question import read_question

    if not reference:
        raise ConfigError("which question?", hint="--question FILE.toml with name, kind, instruction and labels")
    if Path(reference).suffix == ".toml" or Path(reference).is_file():
        return read_question(reference)
    return store.question(reference)


def find_corpus(workspace: Workspace, name: str) -> Artifact:
    """Of that name; without one the latest that is not itself made of labels, so that the same command does the
    same."""
    found = workspace.find(name, kind="corpus") if name else workspace.latest("corpus")
    while not name and found.manifest.get("stage") == "annotate" and found.parents:
        found = workspace.find(found.parents[0], kind="corpus")
    return found


def documents_of(
    corpus: Artifact,
    split: str,
    *,
    sample: int = 0,
    seed: int = 0,
    order: str = "random",
    answers: dict[str, list[Annotation]] | None = None,
) -> list[Document]:
    """The documents of a split, or a sample of them: drawn by a digest of seed and id, or the least sure ones first."""
    from bloomery.core.config import digest
    from bloomery.corpus import read_documents

    splits = _ALL if split == "all" else (split,)
    found = [document for one in splits for document in read_documents(corpus, one)]
    if not sample and order == "random":
        return found
    drawn = {document.id: digest([seed, document.id]) for document in found}
    if order == "random":
        chosen = sorted(found, key=lambda one: drawn[one.id])[:sample]
        kept = {one.id for one in chosen}
        return [one for one in found if one.id in kept]
    sure = {item: _sureness(listed) for item, listed in (answers or {}).items()}
    return sorted(found, key=lambda one: (sure.get(one.id, 2.0), drawn[one.id]))[: sample or None]


def _sureness(answers: list[Annotation]) -> float:
    """Of the least sure annotator; 2 where none says."""
    return min((max(one.probabilities.values()) for one in answers if one.probabilities), default=2.0)


def by_item(answers: Iterator[Annotation]) -> dict[str, list[Annotation]]:
    found: dict[str, list[Annotation]] = {}
    for one in answers:
        found.setdefault(one.item, []).append(one)
    return found
