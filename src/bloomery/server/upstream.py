"""Upstream: the HTTP of a vLLM server, asked whole or as a stream, and its errors in OpenAI's form.

Closing a stream, or cancelling who waits for an answer, closes the connection, at which vLLM stops. Nothing of what it
says of an error inside goes further than the log. This module does not know who asks or what it costs.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from bloomery.core.errors import MissingExtraError, RequestError

log = logging.getLogger("bloomery.server")
_CONNECT_SECONDS = 5.0
_MAX_ERROR_BYTES = 64 * 1024
_TOO_LONG = ("maximum context length", "max_model_len", "maximum model length")


class Upstream:
    """One server. MissingExtraError without httpx."""

    def __init__(self, url: str, key: str = "") -> None:
        """`key` is what it wants to be told; "" nothing."""
        try:
            import httpx
        except ImportError:
            raise MissingExtraError("httpx", "vllm", "passing requests on") from None
        self._httpx = httpx
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.AsyncClient(
            base_url=url,
            headers=headers,
            timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
            trust_env=False,  # no proxy between us and loopback
        )

    async def get(self, path: str) -> Any:
        async with self._told():
            answer = await self._client.get(path)
            self._refuse(answer.status_code, answer.content)
            return _parsed(answer.content)

    async def text(self, path: str) -> str:
        """As it comes; "" where there is nothing to be had."""
        try:
            async with self._told():
                answer = await self._client.get(path, timeout=_CONNECT_SECONDS)
                return answer.text if answer.status_code == 200 else ""
        except RequestError:
            return ""

    async def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer. RequestError for its errors, and 503 where it does not answer."""
        async with self._told():
            answer = await self._client.post(path, **await asyncio.to_thread(_sent, body))
            self._refuse(answer.status_code, answer.content)
            return _parsed(answer.content)

    async def stream(self, path: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The chunks until its [DONE]. RequestErrors as above, also for one inside the stream or an end too early."""
        sent = await asyncio.to_thread(_sent, body)
        async with self._told(), self._client.stream("POST", path, **sent) as answer:
            if answer.status_code != 200:
                self._refuse(answer.status_code, (await answer.aread())[:_MAX_ERROR_BYTES])
            async for line in answer.aiter_lines():
                data = line.removeprefix("data:").strip()
                if not line.startswith("data:") or not data:
                    continue
                if data == "[DONE]":
                    return
                chunk = _parsed(data.encode())
                if "error" in chunk or chunk.get("object") == "error":
                    raise error_of(500, data.encode())
                yield chunk
            raise unavailable("the engine's answer ended in the middle")

    async def close(self) -> None:
        await self._client.aclose()

    def _refuse(self, status: int, content: bytes) -> None:
        if status != 200:
            raise error_of(status, content)

    @asynccontextmanager
    async def _told(self) -> AsyncGenerator[None, None]:
        try:
            yield
        except self._httpx.HTTPError as error:
            log.error("the engine does not answer: %s", str(error) or type(error).__name__)
            raise unavailable("the engine does not answer") from error


def unavailable(message: str) -> RequestError:
    """503, which clients try again."""
    return RequestError(message, hint="try again in a moment", code="engine_unavailable", status=503)


def error_of(status: int, content: bytes) -> RequestError:
    """What a vLLM error says, in either of its forms ({"error": {...}}, and before that the object itself)."""
    try:
        told = json.loads(content)
    except ValueError:
        told = {}
    told = told if isinstance(told, dict) else {}
    inner = told.get("error", told)
    inner = inner if isinstance(inner, dict) else {"message": str(inner)}
    given = inner.get("code")
    status = given if isinstance(given, int) and 400 <= given < 600 else status
    message = str(inner.get("message") or told.get("detail") or "")[:500]
    if not 400 <= status < 500 or status in (401, 403):  # a key that is wrong there is our mistake
        log.error("the engine failed with %d: %s", status, message)
        return RequestError("the engine failed; the server's log says why", code="engine_error", status=502)
    if any(mark in message for mark in _TOO_LONG):
        code = "context_length_exceeded"
    else:
        code = {404: "model_not_found", 429: "server_busy"}.get(status, "invalid_value")
    param = inner.get("param")
    return RequestError(
        message or "the engine refuses this", param=param if isinstance(param, str) else None, code=code, status=status
    )


def _sent(body: dict[str, Any]) -> dict[str, Any]:
    """A body in ASCII: lone surrogates and numbers that are none are JSON's business there, not a failure here."""
    return {"content": json.dumps(body).encode(), "headers": {"content-type": "application/json"}}


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        log.error("the engine's answer is no JSON object")
        raise RequestError("the engine failed; the server's log says why", code="engine_error", status=502)
    return value
