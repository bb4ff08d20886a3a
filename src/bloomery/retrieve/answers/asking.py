"""ask: one question to an index, in one call. This module does not know how an answer is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.core.errors import ConfigError
from bloomery.core.messages import ChatModel
from bloomery.core.workspace import Workspace
from bloomery.retrieve.answers.answer import Answer, AnswerConfig, Answering
from bloomery.retrieve.answers.gate import Gate, usual_gate
from bloomery.retrieve.chunk import Filters, Retriever
from bloomery.retrieve.opening import open_retriever
from bloomery.retrieve.store.config import SearchConfig

if TYPE_CHECKING:
    from bloomery.engine import LanguageModel

BY_MODEL, BY_LIKELIHOOD = "model", "likelihood"
"""As `rerank`: the answering model says of each chunk whether it answers; or how probable it finds the question after
the chunk, which only a model here can say."""
USUAL, NONE = "auto", "none"
"""As `gate`: the one that comes along and fits the search, if one does; and none."""


def ask(
    index: Retriever | str | Path,
    question: str,
    *,
    model: ChatModel | LanguageModel | str | Path | None = None,
    config: AnswerConfig | None = None,
    rerank: str | Path = "",
    gate: Gate | str | Path | None = USUAL,
    filters: Filters | None = None,
    search: SearchConfig | None = None,
    workspace: Workspace | str | Path | None = None,
) -> Answer:
    """The answer of an index's documents, with citations.

    `index` is a name, a path or any `Retriever`. `model` is a chat model, a loaded language model or what `bl.load`
    takes; None answers in the documents' own sentences. `rerank` is a cross-encoder's folder or name, "model", or
    "likelihood". `gate` says when the documents do not answer: a fitted one or its file, "auto" for the one that comes
    along and fits the search, "none" or None for none.
    ArtifactError, ConfigError, RequestError.
    """
    with opened_answering(
        index, model, config, rerank=rerank, gate=gate, search=search, workspace=workspace
    ) as answering:
        return answering.answer(question, filters)


@contextmanager
def opened_answering(
    index: Retriever | str | Path,
    model: ChatModel | LanguageModel | str | Path | None = None,
    config: AnswerConfig | None = None,
    *,
    rerank: str | Path = "",
    gate: Gate | str | Path | None = USUAL,
    search: SearchConfig | None = None,
    workspace: Workspace | str | Path | None = None,
) -> Iterator[Answering]:
    """What `ask` asks; what it opened is closed afterwards."""
    opened: list[Any] = []
    try:
        retriever: Retriever
        if isinstance(index, (str, Path)):
            retriever = open_retriever(index, workspace=workspace, search=search)
            opened.append(retriever)
        else:
            retriever = index
        chat = _chat(model, workspace, opened)
        if rerank:
            retriever = _reranked(retriever, rerank, chat, workspace, opened)
        yield Answering(retriever, chat, config, gate=_gate(gate, retriever))
    finally:
        for one in reversed(opened):
            one.close()


def _gate(gate: Gate | str | Path | None, retriever: Retriever) -> Gate | None:
    if gate is None or isinstance(gate, Gate):
        return gate
    if gate == USUAL:
        return usual_gate(retriever)
    return None if gate == NONE else Gate.read(gate)


def _chat(model: Any, workspace: Workspace | str | Path | None, opened: list[Any]) -> ChatModel | None:
    if model is None or hasattr(model, "answer"):
        return model
    from bloomery.engine import LanguageModel, load_language_model
    from bloomery.engine.chat_model import EngineChat

    if isinstance(model, LanguageModel):
        return EngineChat(model)
    loaded = load_language_model(model, workspace=workspace)
    opened.append(loaded)
    return EngineChat(loaded)


def _reranked(
    retriever: Retriever,
    rerank: str | Path,
    chat: ChatModel | None,
    workspace: Workspace | str | Path | None,
    opened: list[Any],
) -> Retriever:
    from bloomery.engine import LanguageModel, TextEncoder, load
    from bloomery.retrieve.rerank import CrossEncoder, QueryLikelihood, Reranked, YesNo

    if rerank in (BY_MODEL, BY_LIKELIHOOD) and chat is None:
        raise ConfigError("there is no model to rerank with", hint="give a model, or a cross-encoder's folder")
    if rerank == BY_MODEL:
        assert chat is not None
        return Reranked(retriever, YesNo(chat))
    if rerank == BY_LIKELIHOOD:
        here = getattr(chat, "model", None)
        if not isinstance(here, LanguageModel):
            raise ConfigError(
                "an endpoint does not say how probable a question is", hint="--rerank model, or a model here"
            )
        return Reranked(retriever, QueryLikelihood(here))
    encoder = load(rerank, workspace=workspace)
    opened.append(encoder)
    if not isinstance(encoder, TextEncoder):
        raise ConfigError(f"{encoder.name} is {encoder.what()}, no reranker", hint="a sequence-classification encoder")
    return Reranked(retriever, CrossEncoder(encoder))
