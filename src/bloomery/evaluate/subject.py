"""Subject: a model that is to be measured, opened from whatever names it, its answers kept as they come.

This module does not know tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bloomery.core.answer_cache import AnswerCache, CachedChat, CachedLikelihoods
from bloomery.core.artifact import Artifact
from bloomery.core.endpoint import Endpoint, EndpointConfig
from bloomery.core.endpoint_text import EndpointText
from bloomery.core.errors import BloomeryError, ConfigError
from bloomery.core.workspace import Workspace
from bloomery.engine import LanguageModel, load_language_model
from bloomery.engine.chat_model import EngineChat
from bloomery.engine.identity import identity_of
from bloomery.engine.likelihoods import EngineLikelihoods
from bloomery.evaluate.tasks import Subject

ANSWERS = "answers.sqlite"
"""The file of kept answers within a workspace."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A subject, what its answers are kept under, and the artifacts that it comes from."""

    subject: Subject
    identity: str
    parents: tuple[str, ...] = ()
    lasting: bool = True
    """Whether the identity tells weights: a server may have others tomorrow, and is asked anew then."""
    close: Callable[[], None] = lambda: None

    def kept(self, cache: AnswerCache, *, identity: str = "", fresh: bool = False) -> Subject:
        """The subject, with its answers kept, and taken from there unless `fresh`."""
        how: dict[str, Any] = {"identity": identity or self.identity, "fresh": fresh}
        subject = self.subject
        likelihoods = None if subject.likelihoods is None else CachedLikelihoods(subject.likelihoods, cache, **how)
        chat = None if subject.chat is None else CachedChat(subject.chat, cache, **how)
        return replace(subject, likelihoods=likelihoods, chat=chat)


def open_subject(
    model: str | Path | Artifact | LanguageModel,
    *,
    workspace: Workspace,
    chat: bool = False,
    weights: str | None = None,
    concurrency: int = 8,
    bos: bool | None = None,
) -> Opened:
    """A model by whatever `bl.load` takes, one that is loaded, or a server's address up to the version, with its name
    there where it has several: http://127.0.0.1:8000/v1#NAME.

    `chat`: free answers go through its chat template, else they go on from the prompt; `concurrency` requests are under
    way at once; `bos`: whether scored contexts begin with BOS, None: as the tokenizer has it. Errors are those of
    loading, or of the server.
    """
    if isinstance(model, str) and model.startswith(("http://", "https://")):
        return _of_server(model, chat, concurrency, bos)
    if isinstance(model, LanguageModel):
        return _of_loaded(model, (), chat, lambda: None, bos)
    loaded = load_language_model(model, weights=weights, workspace=workspace)
    return _of_loaded(loaded, _parents(model, workspace), chat, loaded.close, bos)


def _of_loaded(
    model: LanguageModel, parents: tuple[str, ...], chat: bool, close: Callable[[], None], bos: bool | None
) -> Opened:
    subject = Subject(
        name=model.name,
        likelihoods=EngineLikelihoods(model, bos=bos),
        chat=EngineChat(model, plain=not chat),
        concurrency=8,
    )
    identity = identity_of(model) + (" chat" if chat else "") + ("" if bos is None else f" bos {bos}")
    return Opened(subject=subject, identity=identity, parents=parents, close=close)


def _of_server(address: str, chat: bool, concurrency: int, bos: bool | None) -> Opened:
    url, _, name = address.partition("#")
    endpoint = Endpoint(EndpointConfig(url=url, model=name or "?"))
    if not name:
        endpoint = Endpoint(replace(endpoint.config, model=_only_model(endpoint)))
    text = EndpointText(endpoint, concurrency=concurrency, bos=bos)
    subject = Subject(name=endpoint.name, likelihoods=text, chat=endpoint if chat else text, concurrency=concurrency)
    return Opened(subject=subject, identity=f"{endpoint.config.model}@{url}", lasting=False, close=endpoint.close)


def _only_model(endpoint: Endpoint) -> str:
    """The name of the one model that a server has. ConfigError if there are several."""
    try:
        names = [str(one["id"]) for one in endpoint.get("/models")[0]["data"]]
    except (KeyError, TypeError):
        names = []
    if len(names) != 1:
        listed = ", ".join(names[:4]) or "none that it tells"
        raise ConfigError(f"{endpoint.config.url} has {len(names)} models: {listed}", hint="ADDRESS#MODEL")
    return names[0]


def _parents(model: str | Path | Artifact, workspace: Workspace) -> tuple[str, ...]:
    if isinstance(model, Artifact):
        return (model.id,)
    try:
        return (workspace.find(model, verify=False).id,)
    except BloomeryError:
        return ()  # a folder or a hub id
