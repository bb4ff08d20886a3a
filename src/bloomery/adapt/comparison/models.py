"""Models: those that a task names, opened once for all arms, their answers kept in the workspace.

A model that knows no chat is asked in one plain text that it continues. One that is opened here computes in native code
where that is right, whether or not it was faster in a trial, so that a loaded machine gives the same bits. This module
does not know arms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bloomery.adapt.comparison.task import ModelConfig
from bloomery.adapt.comparison.work import Work, work_elsewhere, work_here
from bloomery.core.answer_cache import AnswerCache, CachedChat, CachedLikelihoods
from bloomery.core.endpoint import Endpoint, EndpointConfig
from bloomery.core.endpoint_identity import identity_at
from bloomery.core.errors import BloomeryError
from bloomery.core.likelihood import LikelihoodModel
from bloomery.core.messages import ChatModel
from bloomery.core.workspace import Workspace
from bloomery.engine import LanguageModel, load_language_model
from bloomery.engine.chat_model import EngineChat
from bloomery.engine.identity import identity_of
from bloomery.engine.likelihoods import EngineLikelihoods
from bloomery.models.native.trial import trial_of


@dataclass(frozen=True, kw_only=True)
class OpenModel:
    """A model that is open. `loaded` is the engine's; None for one at an endpoint."""

    config: ModelConfig
    identity: str
    """Of its weights, as far as they can be seen."""
    chat: ChatModel
    likelihoods: LikelihoodModel | None
    """How probable it finds texts, kept like its answers; None for one that is not asked so."""
    plain: bool
    """Asked in one text that it continues."""
    loaded: LanguageModel | None
    close: Callable[[], None]
    work: Work
    """What its tokens count."""
    told: str = ""
    """Of an endpoint: what its answers are kept under, for people."""


def opened_model(config: ModelConfig, workspace: Workspace, cache: AnswerCache, *, fresh: bool = False) -> OpenModel:
    """Errors are those of loading, or of the endpoint's config. `fresh`: kept answers are not taken."""
    if config.endpoint:
        given: dict[str, Any] = {"key_file": config.key_file, "structure": config.structure}
        given |= {"key_variable": config.key_variable} if config.key_variable else {}
        endpoint = Endpoint(EndpointConfig(url=config.endpoint, model=config.name, **given))
        found = identity_at(endpoint)
        identity = found.text
        return OpenModel(
            config=config,
            identity=identity,
            chat=CachedChat(endpoint, cache, identity=identity, fresh=fresh),
            likelihoods=None,
            plain=False,
            loaded=None,
            close=endpoint.close,
            work=work_elsewhere(),
            told=found.told(),
        )
    loaded = load_language_model(config.name, workspace=workspace)
    steady(loaded)
    plain = config.ask == "plain" or (config.ask == "auto" and _knows_no_chat(config.name, loaded, workspace))
    identity = identity_of(loaded) + ("" if plain else " chat")  # as evaluations spell it, which keep theirs beside
    chat = EngineChat(loaded, identity=config.called, plain=plain)
    return OpenModel(
        config=config,
        identity=identity,
        chat=CachedChat(chat, cache, identity=identity, fresh=fresh),
        likelihoods=CachedLikelihoods(EngineLikelihoods(loaded), cache, identity=identity, fresh=fresh),
        plain=plain,
        loaded=loaded,
        close=loaded.close,
        work=work_here(loaded.config),
    )


def steady(model: LanguageModel) -> None:
    """Native code where it is right, PyTorch elsewhere: no clock decides between them."""
    native = "off" if trial_of(model.decoder, timed=False).native is None else "on"
    model.set_engine(replace(model.engine.config, native=native))


def _knows_no_chat(name: str, loaded: LanguageModel, workspace: Workspace) -> bool:
    if loaded.tokenizer.chat_template is None:
        return True
    try:
        return workspace.find(name, verify=False).manifest.get("stage") == "pretrain"
    except BloomeryError:
        return False  # a folder or hub id with a template of its own
