"""build_app: the FastAPI application over one or several models.

    GET  /health                  200 when it answers; the one route that needs no key
    GET  /metrics                 Prometheus
    GET  /v1/models[/{id}]
    POST /v1/completions
    POST /v1/chat/completions

This module does not know ports, processes or signals (see `serve`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from bloomery import __version__
from bloomery.core.errors import ConfigError, RequestError, nearest
from bloomery.core.workspace import Workspace
from bloomery.engine import LanguageModel
from bloomery.engine.language_model import Prompt, SamplingOptions
from bloomery.server import chat, completions
from bloomery.server.chat import read_chat
from bloomery.server.completions import CompletionFormat, completion_options, completion_prompts
from bloomery.server.config import ServeConfig
from bloomery.server.errors import install
from bloomery.server.guard import Guard
from bloomery.server.metrics import Metrics
from bloomery.server.replies import reply
from bloomery.server.schemas import Body, ChatBody, CompletionBody
from bloomery.server.served import ServedRequest, new_id
from bloomery.server.waiting import Job, WaitingRoom


def build_app(
    models: LanguageModel | Sequence[LanguageModel],
    *,
    workspace: Workspace | None = None,
    config: ServeConfig | None = None,
) -> FastAPI:
    """The application. With a workspace every request is written into its ledger. ConfigError for equal names."""
    listed = [models] if isinstance(models, LanguageModel) else list(models)
    named = {model.name: model for model in listed}
    if not listed or len(named) != len(listed):
        raise ConfigError("a server needs at least one model, and each its own name")
    config = config or ServeConfig()
    room = WaitingRoom(max_running=config.max_running, max_waiting=config.max_waiting)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        room.close()

    # The framework's own pages load scripts from elsewhere: only the schema is served.
    app = FastAPI(title="bloomery", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    _Routes(named, workspace, config, room).add_to(app)
    install(app, retry_after_seconds=config.retry_after_seconds)
    app.add_middleware(Guard, config=config)
    return app


class _Routes:
    def __init__(
        self, models: dict[str, LanguageModel], workspace: Workspace | None, config: ServeConfig, room: WaitingRoom
    ) -> None:
        self._models = models
        self._workspace = workspace
        self._config = config
        self._room = room
        self._metrics = Metrics(room)
        self._created = int(time.time())

    def add_to(self, app: FastAPI) -> None:
        app.get("/health")(self.health)
        app.get("/metrics", response_class=Response)(self.metrics)
        app.get("/v1/models")(self.models)
        app.get("/v1/models/{name:path}")(self.model)
        app.post(completions.ROUTE, response_class=Response)(self.completions)
        app.post(chat.ROUTE, response_class=Response)(self.chat)

    async def health(self) -> dict[str, str]:
        return {"status": "ok"}

    async def metrics(self) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def models(self) -> dict[str, Any]:
        return {"object": "list", "data": [self._describe(model) for model in self._models.values()]}

    async def model(self, name: str) -> dict[str, Any]:
        return self._describe(self._find(name))

    async def completions(self, body: CompletionBody, http: Request) -> Response:
        model = self._find(body.model)
        body.refuse_unsupported()
        prompts, options, n = completion_prompts(body), completion_options(body), body.n or 1
        job = self._room.enter()
        with job.leaving_on_error():
            ids = await self._encode(model, prompts, n)
            form = CompletionFormat(model, ids, n, echo=bool(body.echo), logprobs=body.logprobs)
            served = self._served("cmpl", completions.ROUTE, model, ids, n, options, job)
            return await reply(http, self._room, served, form, **_streaming(body))

    async def chat(self, body: ChatBody, http: Request) -> Response:
        model = self._find(body.model)
        body.refuse_unsupported()
        job, n = self._room.enter(), body.n or 1
        with job.leaving_on_error():
            self._check_choices(1, n)
            # Not on the event loop: see `read_chat`.
            tokens = self._config.default_chat_tokens
            asked = await asyncio.to_thread(read_chat, model, body, default_tokens=tokens)
            served = self._served("chatcmpl", chat.ROUTE, model, [asked.ids], n, asked.options, job, asked.images)
            return await reply(http, self._room, served, asked.form, **_streaming(body))

    def _check_choices(self, prompts: int, n: int) -> None:
        if prompts * n > self._config.max_choices:
            raise RequestError(
                f"{prompts} prompts with n={n} are more than {self._config.max_choices} choices", param="n"
            )

    async def _encode(self, model: LanguageModel, prompts: Sequence[Prompt], n: int) -> list[list[int]]:
        self._check_choices(len(prompts), n)
        # Text of megabytes takes a while: not on the event loop.
        return await asyncio.to_thread(lambda: [model.encode_prompt(prompt) for prompt in prompts])

    def _served(
        self,
        prefix: str,
        route: str,
        model: LanguageModel,
        prompts: list[list[int]],
        n: int,
        options: SamplingOptions,
        job: Job,
        images: Sequence[Any] = (),
    ) -> ServedRequest:
        return ServedRequest(
            id=new_id(prefix),
            route=route,
            model=model,
            prompts=prompts,
            n=n,
            options=options,
            images=images,
            job=job,
            metrics=self._metrics,
            workspace=self._workspace,
        )

    def _find(self, name: str) -> LanguageModel:
        model = self._models.get(name)
        if model is None:
            hint = nearest(name, self._models) if len(name) < 200 else ""
            raise RequestError(f"no model {name!r:.200}", hint=hint, param="model", code="model_not_found", status=404)
        return model

    def _describe(self, model: LanguageModel) -> dict[str, Any]:
        return {
            "id": model.name,
            "object": "model",
            "created": self._created,
            "owned_by": "bloomery",
            "max_model_len": model.context_length,
        }


def _streaming(body: Body) -> dict[str, bool]:
    usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    return {"stream": bool(body.stream), "include_usage": usage}
