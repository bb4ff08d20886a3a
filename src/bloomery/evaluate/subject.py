"""Subject: a model that is to be measured, opened from whatever names it, its answers kept as they come.

This module does not know tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bloomery.core.answer_cache import AnswerCache, CachedChat, CachedLikelihoods
from bloomery.core.artifact import MANIFEST, Artifact, sha256_file
from bloomery.core.budget import Budget, BudgetedChat, BudgetedLikelihoods
from bloomery.core.config import digest
from bloomery.core.endpoint import UNREACHABLE, Endpoint, EndpointConfig
from bloomery.core.endpoint_text import EndpointText
from bloomery.core.errors import ArtifactError, BloomeryError, ConfigError, RequestError
from bloomery.core.workspace import LATEST, Workspace
from bloomery.engine import Classifier, LanguageModel, TextEncoder, load, load_language_model
from bloomery.engine.chat_model import EngineChat
from bloomery.engine.finding import find_model
from bloomery.engine.identity import identity_of
from bloomery.engine.labelling import label_texts
from bloomery.engine.likelihoods import EngineLikelihoods
from bloomery.engine.loading import LABELS, kind_of_folder
from bloomery.evaluate.classified import classifier_subject
from bloomery.evaluate.tasks import Subject
from bloomery.models.adapter_config import FILE as ADAPTER_FILE
from bloomery.models.weights import read_json

_ADAPTER = "adapter"
_OF_TEXTS = frozenset({"encoder", "text-classifier", "decoder-classifier"})
"""Kinds of models that may give texts labels."""
_SILENCE_SECONDS = 10.0
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
    labels: tuple[str, ...] = ()
    """Of a classifier: all that it can answer."""

    def kept(
        self, cache: AnswerCache, *, identity: str = "", fresh: bool = False, budget: Budget | None = None
    ) -> Subject:
        """The subject, with its answers kept, and taken from there unless `fresh`; others as long as `budget` lasts."""
        how: dict[str, Any] = {"identity": identity or self.identity, "fresh": fresh}
        likelihoods, chat = self.subject.likelihoods, self.subject.chat
        if budget is not None:
            likelihoods = None if likelihoods is None else BudgetedLikelihoods(likelihoods, budget)
            chat = None if chat is None else BudgetedChat(chat, budget)
        likelihoods = None if likelihoods is None else CachedLikelihoods(likelihoods, cache, **how)
        chat = None if chat is None else CachedChat(chat, cache, **how)
        return replace(self.subject, likelihoods=likelihoods, chat=chat)


def open_subject(
    model: str | Path | Artifact | LanguageModel,
    *,
    workspace: Workspace,
    adapter: str | Path | Artifact | None = None,
    chat: bool = False,
    weights: str | None = None,
    concurrency: int = 8,
    bos: bool | None = None,
    classifiers: bool = False,
) -> Opened:
    """A model by whatever `bl.load` takes, one that is loaded, or a server's address up to the version, with its name
    there where it has several: http://127.0.0.1:8000/v1#NAME. A LoRA adapter (an artifact, a folder in PEFT's format)
    stands for itself on its base, or is given as `adapter` beside the model that it goes on.

    `chat`: free answers go through its chat template, else they go on from the prompt; `concurrency` requests are under
    way at once; `bos`: whether scored contexts begin with BOS, None: as the tokenizer has it; `classifiers`: one
    that gives texts labels is opened too, with these. Errors are those of loading, or of the server.
    """
    if isinstance(model, str) and model.startswith(("http://", "https://")):
        if adapter is not None:
            raise ConfigError("an adapter is not put on a server's model", hint="serve it there, and give ADDRESS#NAME")
        return _of_server(model, chat, concurrency, bos)
    if isinstance(model, LanguageModel):
        if adapter is not None:
            raise ConfigError("the model is loaded already", hint="model.adapted(model.load_adapter(FOLDER).name)")
        return _of_loaded(model, (), chat, lambda: None, bos)
    if adapter == LATEST:
        adapter = workspace.latest(_ADAPTER)
    put_on = _adapter(model if adapter is None else adapter, workspace)
    if put_on is None:
        if adapter is not None:
            hint = f"an artifact of bloomery adapt, or a folder with {ADAPTER_FILE}"
            raise ConfigError(f"{str(adapter)!r:.80} is no adapter", hint=hint)
        if classifiers and (found := _classifier(model, workspace)) is not None:
            return found
        loaded = load_language_model(model, weights=weights, workspace=workspace)
        return _of_loaded(loaded, _parents(model, workspace), chat, loaded.close, bos)
    folder, artifact = put_on
    if (folder / LABELS).is_file():
        name = artifact.name if artifact is not None else str(folder)
        hint = f"bloomery adapt merge {name} makes a classifier of it, which is measured"
        raise ConfigError(f"{folder.name} is an adapter that gives labels, and writes no text", hint=hint)
    base = _base(folder, artifact) if adapter is None else model
    try:
        loaded = load_language_model(base, weights=weights, workspace=workspace)
    except ArtifactError as error:
        if adapter is not None:
            raise
        raise ArtifactError(f"{folder.name} is an adapter: {error.message}", hint="BASE --adapter ADAPTER") from None
    view = loaded.adapted(loaded.load_adapter(folder).name)
    parents = (*_parents(base, workspace), *((artifact.id,) if artifact is not None else ()))
    return _of_loaded(view, parents, chat, loaded.close, bos)


def _adapter(reference: str | Path | Artifact, workspace: Workspace) -> tuple[Path, Artifact | None] | None:
    """The folder of an adapter, and its artifact if it is one; None for what is no adapter."""
    if isinstance(reference, Artifact):
        return (reference.path, reference) if reference.kind == _ADAPTER else None
    path = Path(reference).expanduser()
    if (path / ADAPTER_FILE).is_file() and not (path / MANIFEST).is_file() and not (path / "config.json").is_file():
        return path, None
    try:
        artifact = workspace.find(reference)
    except ArtifactError:
        return None  # a folder of a model, a hub id, or nothing: loading says which
    return (artifact.path, artifact) if artifact.kind == _ADAPTER else None


def _classifier(model: str | Path | Artifact, workspace: Workspace) -> Opened | None:
    """A model that gives texts labels; None for any other."""
    folder, name = find_model(model, workspace)
    if kind_of_folder(folder).name not in _OF_TEXTS:
        return None
    loaded = load(model, workspace=workspace)
    if not isinstance(loaded, (Classifier, TextEncoder)) or "classify" not in loaded.can():
        return None
    if isinstance(loaded, Classifier):
        labels = tuple(loaded.labels)
    else:
        labels = tuple(label_texts(loaded.encoder.config.id2label, loaded.encoder.config.num_labels))
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != MANIFEST)
    identity = f"{name}#{digest([[path.name, sha256_file(path)] for path in files])}"
    subject, parents = classifier_subject(loaded, labels), _parents(model, workspace)
    return Opened(subject=subject, identity=identity, parents=parents, close=loaded.close, labels=labels)


def _base(folder: Path, artifact: Artifact | None) -> str:
    """The model that an adapter was trained on: its artifact's first parent, or what PEFT's file says. ConfigError
    where neither is told."""
    if artifact is not None:
        return artifact.manifest["parents"][0]
    base = read_json(folder / ADAPTER_FILE).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ConfigError(f"{folder} does not say which model it is an adapter of", hint="BASE --adapter FOLDER")
    return base


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
    config = EndpointConfig(url=url, model=name or "?")
    _reach(config)
    if not name:
        with Endpoint(config) as asked:
            config = replace(config, model=_only_model(asked))
    endpoint = Endpoint(config)
    text = EndpointText(endpoint, concurrency=concurrency, bos=bos)
    subject = Subject(name=endpoint.name, likelihoods=text, chat=endpoint if chat else text, concurrency=concurrency)
    return Opened(subject=subject, identity=f"{endpoint.config.model}@{url}", lasting=False, close=endpoint.close)


def _reach(config: EndpointConfig) -> None:
    """RequestError where nothing listens: said at once, not once each question has lost its patience."""
    with Endpoint(replace(config, max_attempts=1, silence_seconds=_SILENCE_SECONDS)) as probe:
        try:
            probe.get("/models")
        except RequestError as error:
            if error.code == UNREACHABLE:
                raise RequestError(f"no server at {config.url}: {error.message}", hint=error.hint, status=503) from None


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
