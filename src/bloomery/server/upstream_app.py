"""build_upstream_app: our contract (keys, limits, audit, ledger, joules, store, metrics) over a vLLM server.

    POST /v1/completions, /v1/chat/completions, /v1/embeddings, /tokenize, /detokenize
    GET  /health, /metrics (ours, then vLLM's), /v1/models[/{id}], /v1/requests[/{id}], and their feedback

This module does not know processes (see `vllm_process`) or sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from bloomery.core.errors import RequestError, nearest
from bloomery.core.workspace import Workspace
from bloomery.server import chat, completions, embeddings, store_routes, tokenizing
from bloomery.server.app import assembled
from bloomery.server.config import ServeConfig
from bloomery.server.drain import Drain
from bloomery.server.embeddings import EmbeddingsBody
from bloomery.server.errors import describe
from bloomery.server.metrics import Metrics
from bloomery.server.passed import PassedRequest, checked_body, most_new_tokens
from bloomery.server.record import Reader, ledger_reader
from bloomery.server.replies import encode_json, gone, unless_gone
from bloomery.server.schemas import ChatBody, CompletionBody, refuse_unsupported
from bloomery.server.served import new_id
from bloomery.server.service import open_store
from bloomery.server.shared_energy import SharedEnergy
from bloomery.server.store_routes import Asked, FeedbackBody, add_feedback, list_requests, one_request
from bloomery.server.tokenizing import DetokenizeBody, TokenizeBody
from bloomery.server.upstream import Upstream, unavailable
from bloomery.server.visit import Visit, visit_of
from bloomery.server.vllm_process import VllmProcess
from bloomery.server.waiting import Job, WaitingRoom

_SMALL_SECONDS = 60.0
"""How long /tokenize and /detokenize wait for the engine."""


class UpstreamService:
    """What the routes share. `models` are vLLM's own model objects."""

    def __init__(
        self, process: VllmProcess, models: Sequence[dict[str, Any]], workspace: Workspace | None, config: ServeConfig
    ) -> None:
        self.process, self.config = process, config
        self.models = {str(model["id"]): model for model in models}
        self.upstream = Upstream(process.url, process.key)
        self.room = WaitingRoom(
            max_running=config.max_running, max_waiting=config.max_waiting, max_waiting_of_one=config.waiting_of_key
        )
        self.metrics = Metrics(self.room)
        self.drain = Drain()
        self.energy = SharedEnergy(process.meter()[0])
        self.store = open_store(workspace, config)
        self.readers: list[Reader] = [] if workspace is None else [ledger_reader(workspace.ledger)]
        if self.store is not None:
            self.readers.append(self.store.add)
        self._restarts = process.restarted

    def admit(self, name: str, visit: Visit) -> None:
        """RequestError 404 for a model that is not there, 503 while nothing answers."""
        if name not in self.models:
            hint = nearest(name, self.models) if len(name) < 200 else ""
            raise RequestError(f"no model {name!r:.200}", hint=hint, param="model", code="model_not_found", status=404)
        visit.model = name
        if not self.process.alive:
            raise unavailable("the engine is not running")
        if self.process.restarted != self._restarts:  # it may compute on other cards now
            self._restarts = self.process.restarted
            self.energy.change(self.process.meter()[0])

    def enter(self, http: Request, *, priority: int | None, timeout_seconds: float | None) -> Job:
        """A place in the waiting room. RequestError 429."""
        visit, most = visit_of(http), self.config.max_request_seconds
        seconds = most if timeout_seconds is None else min(timeout_seconds, most)
        job = self.room.enter(tenant=visit.tenant.name, priority=priority or 0, seconds=seconds)
        job.on_end(visit.hold())
        visit.works_while(lambda: job.working)
        return job

    async def count(self, body: ChatBody | CompletionBody | EmbeddingsBody, raw: dict[str, Any]) -> int:
        """Tokens of the prompts, as vLLM counts them; only asked where a key's tokens are limited."""
        asked: dict[str, Any] = {"model": body.model}
        if isinstance(body, ChatBody):
            told = await self.upstream.ask(tokenizing.TOKENIZE, asked | {"messages": raw["messages"]})
            return int(told.get("count") or 0)
        given = raw["prompt"] if isinstance(body, CompletionBody) else raw["input"]
        prompts = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
        count = sum(len(one) for one in prompts if isinstance(one, list))
        for one in prompts:
            if isinstance(one, str):
                told = await self.upstream.ask(tokenizing.TOKENIZE, asked | {"prompt": one})
                count += int(told.get("count") or 0)
        return count

    def passed(
        self, prefix: str, route: str, model: str, sent: dict[str, Any], job: Job, visit: Visit
    ) -> PassedRequest:
        return PassedRequest(
            id=new_id(prefix), route=route, model=model, sent=sent, upstream=self.upstream, job=job, visit=visit,
            metrics=self.metrics, energy=self.energy, readers=self.readers,
        )  # fmt: skip

    async def close(self) -> None:
        self.room.close()
        await self.upstream.close()
        self.energy.close()
        if self.store is not None:
            self.store.close()


def build_upstream_app(
    process: VllmProcess,
    models: Sequence[dict[str, Any]],
    *,
    workspace: Workspace | None = None,
    config: ServeConfig | None = None,
) -> FastAPI:
    """The application over a process that has been started. MissingExtraError without httpx."""
    config = config or ServeConfig()
    service = UpstreamService(process, models, workspace, config)
    return assembled(service, _Routes(service).add_to, service.close, config, workspace)


class _Routes:
    def __init__(self, service: UpstreamService) -> None:
        self._service = service

    def add_to(self, app: FastAPI) -> None:
        app.get("/health", response_class=Response)(self.health)
        app.get("/metrics", response_class=Response)(self.metrics)
        app.get("/v1/models")(self.models)
        app.get("/v1/models/{name:path}")(self.model)
        app.post(completions.ROUTE, response_class=Response)(self.completions)
        app.post(chat.ROUTE, response_class=Response)(self.chat)
        app.post(embeddings.ROUTE, response_class=Response)(self.embeddings)
        app.get(store_routes.ROUTE)(self.requests)
        app.get(store_routes.ONE)(self.request)
        app.post(store_routes.FEEDBACK)(self.feedback)
        app.post(tokenizing.TOKENIZE)(self.tokenize)
        app.post(tokenizing.DETOKENIZE)(self.detokenize)

    async def health(self) -> Response:
        service = self._service
        state = "draining" if service.drain.begun else "ok" if service.process.alive else "engine not running"
        headers = {} if state == "ok" else {"retry-after": str(service.config.retry_after_seconds)}
        return Response(encode_json({"status": state}), 200 if state == "ok" else 503, headers, "application/json")

    async def metrics(self) -> Response:
        text = self._service.metrics.text() + (await self._service.upstream.text("/metrics")).encode()
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def models(self) -> dict[str, Any]:
        return {"object": "list", "data": list(self._service.models.values())}

    async def model(self, name: str) -> dict[str, Any]:
        if name not in self._service.models:
            raise RequestError(f"no model {name!r:.200}", param="model", code="model_not_found", status=404)
        return self._service.models[name]

    async def completions(self, body: CompletionBody, http: Request) -> Response:
        return await self._text(body, http, "cmpl", completions.ROUTE)

    async def chat(self, body: ChatBody, http: Request) -> Response:
        return await self._text(body, http, "chatcmpl", chat.ROUTE)

    async def _text(self, body: ChatBody | CompletionBody, http: Request, prefix: str, route: str) -> Response:
        service, visit = self._service, visit_of(http)
        service.admit(body.model, visit)
        raw = await _raw(http)
        default = service.config.default_chat_tokens
        sent = await asyncio.to_thread(checked_body, body, raw, default_tokens=default)
        prompts = 1 if isinstance(body, ChatBody) else len(completions.completion_prompts(body))
        if prompts * (body.n or 1) > service.config.max_choices:
            raise RequestError(f"more than {service.config.max_choices} choices", param="n", code="invalid_value")
        visit.private = (body.model_extra or {}).get("store") is False
        job = service.enter(http, priority=body.priority, timeout_seconds=body.timeout_seconds)
        with job.leaving_on_error():
            if visit.tenant.allowance.limits.tokens_per_minute is not None:
                new = most_new_tokens(body, prompts, default_tokens=default)
                visit.reserve(prompt=await service.count(body, raw), new=new)
            passed = service.passed(prefix, route, body.model, sent, job, visit)
            if body.stream:
                usage = body.stream_options is not None and bool(body.stream_options.include_usage)
                return _PassedStream(service, passed, include_usage=usage)
            return await _whole(http, service, passed)

    async def embeddings(self, body: EmbeddingsBody, http: Request) -> Response:
        service, visit = self._service, visit_of(http)
        service.admit(body.model, visit)
        body.inputs()
        raw = await _raw(http)
        job = service.enter(http, priority=body.priority, timeout_seconds=body.timeout_seconds)
        with job.leaving_on_error():
            if visit.tenant.allowance.limits.tokens_per_minute is not None:
                visit.reserve(prompt=await service.count(body, raw))
            sent = {name: value for name, value in raw.items() if name not in ("priority", "timeout_seconds")}
            return await _whole(http, service, service.passed("embd", embeddings.ROUTE, body.model, sent, job, visit))

    async def requests(self, asked: Asked, http: Request) -> dict[str, Any]:
        return await asyncio.to_thread(list_requests, self._service.store, visit_of(http).tenant, asked)

    async def request(self, request: str, http: Request) -> dict[str, Any]:
        return await asyncio.to_thread(one_request, self._service.store, visit_of(http).tenant, request)

    async def feedback(self, request: str, body: FeedbackBody, http: Request) -> dict[str, Any]:
        return await asyncio.to_thread(add_feedback, self._service.store, visit_of(http).tenant, request, body)

    async def tokenize(self, body: TokenizeBody, http: Request) -> dict[str, Any]:
        return await self._small(body, http, tokenizing.TOKENIZE)

    async def detokenize(self, body: DetokenizeBody, http: Request) -> dict[str, Any]:
        return await self._small(body, http, tokenizing.DETOKENIZE)

    async def _small(self, body: TokenizeBody | DetokenizeBody, http: Request, route: str) -> dict[str, Any]:
        refuse_unsupported(body.model_extra or {}, type(body).model_fields)
        messages = body.messages if isinstance(body, TokenizeBody) else None
        for place, message in enumerate(messages or ()):
            for where, _ in message.image_urls(place):  # it would be fetched there
                raise RequestError(f"{where}: images are not supported here", param=where, code="unsupported_parameter")
            message.plain(place)
        name = body.model or next(iter(self._service.models))
        self._service.admit(name, visit_of(http))
        try:
            async with asyncio.timeout(_SMALL_SECONDS):
                return await self._service.upstream.ask(route, {**await _raw(http), "model": name})
        except TimeoutError:
            raise unavailable("the engine does not answer in time") from None


async def _raw(http: Request) -> dict[str, Any]:
    """The body as it came: it goes on as it is, where it may."""
    return await asyncio.to_thread(json.loads, await http.body())


async def _whole(http: Request, service: UpstreamService, passed: PassedRequest) -> Response:
    async def work() -> dict[str, Any]:
        async with service.room.turn(passed.job):
            return await passed.answer()

    try:
        told = await unless_gone(http, work())
        if told is None:
            return gone()
        return Response(await asyncio.to_thread(encode_json, told), media_type="application/json")
    finally:
        passed.job.leave()


class _PassedStream(StreamingResponse):
    """Server-sent events; the place is given back even when the stream was never begun."""

    def __init__(self, service: UpstreamService, passed: PassedRequest, *, include_usage: bool) -> None:
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(self._events(include_usage), media_type="text/event-stream", headers=headers)
        self._service, self._passed = service, passed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        job = self._passed.job
        try:
            await super().__call__(scope, receive, send)
            if not job.ended:  # the books should say what came of it, not how it began
                self._passed.visit.status = job.cut_status
        finally:
            with contextlib.suppress(RuntimeError):  # it is at work still, and ends by itself
                await self.body_iterator.aclose()  # type: ignore[union-attr]
            job.leave()

    async def _events(self, include_usage: bool) -> AsyncIterator[bytes]:
        passed, head = self._passed, {}
        tail: dict[str, Any] = {"usage": None} if include_usage else {}
        try:
            async with self._service.room.turn(passed.job), aclosing(passed.chunks()) as chunks:  # type: ignore[type-var]
                async for chunk in chunks:
                    head = {name: value for name, value in chunk.items() if name != "choices"}
                    yield b"data: " + encode_json({**chunk, **tail}) + b"\n\n"
            if include_usage:
                yield b"data: " + encode_json({**head, "choices": [], "usage": passed.whole_usage()}) + b"\n\n"
        except Exception as error:  # headers are sent: an error can only be told inside the stream
            passed.visit.status, told = describe(error)
            yield b"data: " + encode_json(told) + b"\n\n"
            return
        passed.visit.answered()  # whoever reads the end may ask again at once
        yield b"data: [DONE]\n\n"
