"""LargeBodyRoute: a route whose large bodies are parsed and checked in a thread; `aside` for further work on a body.

A prompt of a million token ids takes a good part of a second to check, during which the event loop would tell nobody
anything. A short one is done sooner than a thread is awake on a busy machine. This module does not know which routes or
bodies there are.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

T = TypeVar("T")
LARGE_BYTES = 64 * 1024
"""Bodies from here on are handled in another thread than the event loop's."""

SMALL_BYTES = 4 * 1024
"""Bodies up to here are worked on where they came in."""


async def aside(request: Request, work: Callable[[], T], *, heavy: bool) -> T:
    """What `work()` makes of a request's body; in another thread than the event loop's if the body is not small, or the
    work `heavy` for other reasons."""
    if not heavy and len(await request.body()) <= SMALL_BYTES:
        return work()
    return await asyncio.to_thread(work)


class LargeBodyRoute(APIRoute):
    """See the module."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        model = None if self.body_field is None else self.body_field.field_info.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return handler

        async def handle(request: Request) -> Response:
            try:
                return await handler(_LargeRequest(request, model))
            except _Invalid as error:
                raise RequestValidationError(error.errors) from error

        return handle


class _Invalid(HTTPException):
    """The framework passes exceptions of this kind on from where it reads a body."""

    def __init__(self, errors: list[Any]) -> None:
        super().__init__(400)
        self.errors = errors


class _LargeRequest(Request):
    def __init__(self, request: Request, model: type[BaseModel]) -> None:
        super().__init__(request.scope, request.receive)
        self._model = model

    async def json(self) -> Any:
        """The parsed body; a large one is checked as well, and not checked again."""
        body = await self.body()
        if len(body) < LARGE_BYTES:
            return await super().json()
        return await asyncio.to_thread(_read, body, self._model)


def _read(body: bytes, model: type[BaseModel]) -> BaseModel:
    value = json.loads(body)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise _Invalid([{**one, "loc": ("body", *one["loc"])} for one in found]) from error
