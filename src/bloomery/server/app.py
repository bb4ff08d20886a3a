"""build_app: the FastAPI application over one or several models.

    GET  /health                  200 when it answers; the one route that needs no key
    GET  /metrics                 Prometheus
    GET  /v1/models[/{id}]
    POST /v1/models/load          and DELETE /v1/models/{id}, for keys with the right "admin"
    POST /v1/load_lora_adapter    and /v1/unload_lora_adapter, as vLLM has them, for the same keys
    POST /v1/completions
    POST /v1/chat/completions
    POST /v1/responses            and GET, DELETE /v1/responses/{id}, where responses are kept
    POST /v1/embeddings
    GET  /v1/requests[/{id}]      and POST /v1/requests/{id}/feedback, where requests are kept
    POST /tokenize, /detokenize
    GET  /tokenizer_info

This module does not know ports, processes or signals (see `serve`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from bloomery import __version__
from bloomery.core.errors import ConfigError
from bloomery.core.workspace import Workspace
from bloomery.engine import LanguageModel, TextEncoder
from bloomery.engine.language_model import SamplingOptions
from bloomery.server import adapters, chat, completions, embeddings, responses, store_routes, tokenizing
from bloomery.server.adapters import LoadAdapterBody, UnloadAdapterBody
from bloomery.server.audit import AuditLog
from bloomery.server.chat import read_chat
from bloomery.server.completions import CompletionFormat, completion_options, completion_prompts
from bloomery.server.config import ServeConfig
from bloomery.server.drain import Drain
from bloomery.server.embeddings import Embedding, EmbeddingsBody, encode_inputs
from bloomery.server.errors import install
from bloomery.server.guard import Guard
from bloomery.server.kept_responses import earlier_items, forget_response, keeper, kept_response
from bloomery.server.keys import KeyRing
from bloomery.server.large_bodies import LargeBodyRoute, aside
from bloomery.server.loading import LOAD, LoadBody
from bloomery.server.replies import encode_json, gone, reply, unless_gone
from bloomery.server.response_events import respond
from bloomery.server.responses import ResponsesBody, read_response
from bloomery.server.schemas import Body, ChatBody, CompletionBody
from bloomery.server.service import Service
from bloomery.server.shelf import Served, Shelf
from bloomery.server.store_routes import Asked, FeedbackBody, add_feedback, list_requests, one_request
from bloomery.server.tokenizing import DetokenizeBody, TokenizeBody
from bloomery.server.visit import visit_of
from bloomery.server.waiting import Job

_MODEL = "/v1/models/{name:path}"


def build_app(
    models: Served | Sequence[Served] | Shelf,
    *,
    workspace: Workspace | None = None,
    config: ServeConfig | None = None,
) -> FastAPI:
    """The application. With a workspace every request is written into its ledger. ConfigError for equal names."""
    if not isinstance(models, Shelf):
        models = Shelf([models] if isinstance(models, (LanguageModel, TextEncoder)) else models)
    shelf = models
    if not len(shelf):
        raise ConfigError("a server needs at least one model")
    config = config or ServeConfig()
    service = Service(shelf, workspace, config)

    async def close() -> None:
        service.close()

    return assembled(service, _Routes(service).add_to, close, config, workspace)


def assembled(
    service: Any,
    add_routes: Callable[[FastAPI], None],
    close: Callable[[], Awaitable[None]],
    config: ServeConfig,
    workspace: Workspace | None,
) -> FastAPI:
    """An application of these routes, guarded, with the audit log; `service` has a drain, `close` is awaited at the
    end."""
    audit = open_audit_log(config, workspace)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await close()
        if audit is not None:
            audit.close()

    # The framework's own pages load scripts from elsewhere: only the schema is served.
    app = FastAPI(title="bloomery", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.service = service
    app.router.route_class = LargeBodyRoute
    add_routes(app)
    guard_app(app, config, service.drain, audit)
    return app


def guard_app(app: FastAPI, config: ServeConfig, drain: Drain, audit: AuditLog | None) -> None:
    """Put errors into the one form, and `guard` before every route."""
    install(app, retry_after_seconds=config.retry_after_seconds)
    app.add_middleware(
        Guard,
        config=config,
        ring=KeyRing(config.keys or None, owner_key=config.api_key or ""),
        drain=drain,
        audit=audit,
        name_route=lambda scope: _route_name(app, scope),
    )


def open_audit_log(config: ServeConfig, workspace: Workspace | None) -> AuditLog | None:
    """As the config says; None for none."""
    path = config.audit_log
    if path is None:
        path = str(workspace.root / "audit.jsonl") if workspace is not None else ""
    if not path:
        return None
    return AuditLog(Path(path), max_bytes=config.audit_log_bytes, max_files=config.audit_log_files)


def _route_name(app: FastAPI, scope: Scope) -> str:
    """The pattern of the route, never what a client put into its path; "unknown" for none."""
    for route in app.router.routes:
        if route.matches(scope)[0] != Match.NONE:
            return getattr(route, "path", "unknown")
    return "unknown"


class _Routes:
    def __init__(self, service: Service) -> None:
        self._service = service

    def add_to(self, app: FastAPI) -> None:
        app.get("/health", response_class=Response)(self.health)
        app.get("/metrics", response_class=Response)(self.metrics)
        app.get("/v1/models")(self.models)
        app.post(LOAD)(self.load)
        app.post(adapters.LOAD, response_class=Response)(self.load_adapter)
        app.post(adapters.UNLOAD, response_class=Response)(self.unload_adapter)
        app.get(_MODEL)(self.model)
        app.delete(_MODEL, response_class=Response)(self.unload)
        app.post(completions.ROUTE, response_class=Response)(self.completions)
        app.post(chat.ROUTE, response_class=Response)(self.chat)
        app.post(responses.ROUTE, response_class=Response)(self.responses)
        app.get(responses.ONE)(self.response)
        app.delete(responses.ONE)(self.forget_response)
        app.post(embeddings.ROUTE, response_class=Response)(self.embeddings)
        app.get(store_routes.ROUTE)(self.requests)
        app.get(store_routes.ONE)(self.request)
        app.post(store_routes.FEEDBACK)(self.feedback)
        app.post(tokenizing.TOKENIZE)(self.tokenize)
        app.post(tokenizing.DETOKENIZE)(self.detokenize)
        app.get(tokenizing.INFO)(self.tokenizer_info)

    async def health(self) -> Response:
        if self._service.drain.begun:
            headers = {"retry-after": str(self._service.config.retry_after_seconds)}
            return Response(b'{"status":"draining"}', 503, headers, "application/json")
        return Response(b'{"status":"ok"}', media_type="application/json")

    async def metrics(self) -> Response:
        # Not on the event loop: the drift watch may be comparing its windows.
        told = await asyncio.to_thread(self._service.metrics.text)
        return Response(told, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def models(self) -> dict[str, Any]:
        return {"object": "list", "data": self._service.shelf.describe()}

    async def model(self, name: str) -> dict[str, Any]:
        return self._service.shelf.describe(name)[0]

    async def load(self, body: LoadBody, http: Request) -> dict[str, Any]:
        return await self._service.load(body, visit_of(http))

    async def load_adapter(self, body: LoadAdapterBody, http: Request) -> Response:
        name = await self._service.load_adapter(body, visit_of(http))
        return Response(f"Success: LoRA adapter '{name}' added successfully.", media_type="text/plain")

    async def unload_adapter(self, body: UnloadAdapterBody, http: Request) -> Response:
        name = await unless_gone(http, self._service.unload_adapter(body, visit_of(http)))
        if name is None:
            return gone()
        return Response(f"Success: LoRA adapter '{name}' removed successfully.", media_type="text/plain")

    async def unload(self, name: str, http: Request) -> Response:
        done = await unless_gone(http, self._service.unload(name, visit_of(http)))
        return gone() if done is None else Response(encode_json(done), media_type="application/json")

    async def completions(self, body: CompletionBody, http: Request) -> Response:
        service = self._service
        model = _asked(service, body, http)
        prompts, n = completion_prompts(body), body.n or 1
        job = _entered(service, body, http)
        with job.leaving_on_error():

            def read() -> tuple[list[list[int]], SamplingOptions]:
                return service.encode(model, prompts, body.best_of or n), completion_options(model, body)

            ids, options = await aside(http, read, heavy=body.asks)
            form = CompletionFormat(model, ids, n, echo=bool(body.echo), logprobs=body.logprobs)
            served = service.served("cmpl", completions.ROUTE, model, ids, n, options, job, visit_of(http), body=body)
            return await reply(http, service.room, served, form, **_streaming(body))

    async def chat(self, body: ChatBody, http: Request) -> Response:
        service = self._service
        model = _asked(service, body, http)
        job, n = _entered(service, body, http), body.n or 1
        with job.leaving_on_error():
            service.check_choices(1, n)
            # Not on the event loop: see `read_chat`.
            tokens = service.config.default_chat_tokens
            asked = await asyncio.to_thread(read_chat, model, body, default_tokens=tokens)
            served = service.served(
                "chatcmpl",
                chat.ROUTE,
                model,
                [asked.ids],
                n,
                asked.options,
                job,
                visit_of(http),
                asked.images,
                continues=False,
                body=body,
            )
            return await reply(http, service.room, served, asked.form, **_streaming(body))

    async def responses(self, body: ResponsesBody, http: Request) -> Response:
        service = self._service
        model = _asked(service, body, http)
        tokens = service.config.default_chat_tokens
        whose = visit_of(http).tenant.name
        job = _entered(service, body, http)
        with job.leaving_on_error():
            keep = keeper(service.store, body)
            earlier = await asyncio.to_thread(earlier_items, service.store, body, whose)
            asked = await asyncio.to_thread(read_response, model, body, default_tokens=tokens, earlier=earlier)
            served = service.served(
                "resp",
                responses.ROUTE,
                model,
                [asked.ids],
                1,
                asked.options,
                job,
                visit_of(http),
                asked.images,
                continues=False,
                body=body,
            )
            return await respond(http, service.room, served, body, asked, keep)

    async def response(self, response: str, http: Request) -> dict[str, Any]:
        return await asyncio.to_thread(kept_response, self._service.store, visit_of(http).tenant.name, response)

    async def forget_response(self, response: str, http: Request) -> dict[str, Any]:
        return await asyncio.to_thread(forget_response, self._service.store, visit_of(http).tenant.name, response)

    async def embeddings(self, body: EmbeddingsBody, http: Request) -> Response:
        service = self._service
        model = service.text_encoder(body.model, http)
        job = _entered(service, body, http)
        try:
            rows = await asyncio.to_thread(encode_inputs, model, body)
            work = Embedding(model=model, rows=rows, job=job)
            done = await unless_gone(http, service.embed(work, visit_of(http)))
            if not done:
                return gone()
            answer = await asyncio.to_thread(lambda: encode_json(work.answer(body)))
            return Response(answer, media_type="application/json")
        finally:
            job.leave()

    async def requests(self, asked: Asked, http: Request) -> dict[str, Any]:
        return await asyncio.to_thread(list_requests, self._service.store, visit_of(http).tenant, asked)

    async def request(self, request: str, http: Request) -> dict[str, Any]:
        return await asyncio.to_thread(one_request, self._service.store, visit_of(http).tenant, request)

    async def feedback(self, request: str, body: FeedbackBody, http: Request) -> dict[str, Any]:
        return await asyncio.to_thread(add_feedback, self._service.store, visit_of(http).tenant, request, body)

    async def tokenize(self, body: TokenizeBody, http: Request) -> dict[str, Any]:
        return await asyncio.to_thread(tokenizing.tokenize, self._service.model(body.model, http), body)

    async def detokenize(self, body: DetokenizeBody, http: Request) -> dict[str, Any]:
        return await asyncio.to_thread(tokenizing.detokenize, self._service.model(body.model, http), body)

    async def tokenizer_info(self, http: Request, model: str | None = None) -> dict[str, Any]:
        return tokenizing.tokenizer_info(self._service.model(model, http))


def _asked(service: Service, body: CompletionBody | ChatBody | ResponsesBody, http: Request) -> LanguageModel:
    """The model that a body names. RequestError for what is not supported."""
    model = service.language_model(body.model, http)
    body.refuse_unsupported()
    store = body.store if isinstance(body, ResponsesBody) else (body.model_extra or {}).get("store")
    visit_of(http).private = store is False
    return model


def _entered(service: Service, body: CompletionBody | ChatBody | ResponsesBody | EmbeddingsBody, http: Request) -> Job:
    return service.enter(http, priority=body.priority, timeout_seconds=body.timeout_seconds)


def _streaming(body: Body) -> dict[str, bool]:
    usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    return {"stream": bool(body.stream), "include_usage": usage}
