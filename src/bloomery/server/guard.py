"""Guard: what is refused before any route sees it, and what is written down of every request.

Host and Origin (DNS rebinding, pages of other sites), the API key and its limits, the end of the server, the content
type, the size of the body and the depth of its JSON. One path for every route but /health, written as ASGI middleware
so that nothing goes round it; it puts a `Visit` on the scope. This module does not know what the routes do.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

import numpy as np
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bloomery.server.allowance import LimitReached
from bloomery.server.audit import AuditLog
from bloomery.server.config import ServeConfig
from bloomery.server.drain import Drain
from bloomery.server.errors import error_response
from bloomery.server.keys import KeyRing
from bloomery.server.large_bodies import LARGE_BYTES
from bloomery.server.tenant import Tenant
from bloomery.server.visit import SCOPE_KEY, Visit

OPEN_PATHS = frozenset({"/health"})
DRAIN_PATHS = frozenset({"/metrics"})
"""Answered to the end."""
_DISCARD_BYTES = 128 * 1024 * 1024
_DISCARD_SECONDS = 5.0
_NOBODY = Tenant(name="", rights=frozenset())
# Possessive: a string of megabytes must not be kept for backtracking.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|$)', re.DOTALL)


class _Refused(Exception):
    def __init__(self, status: int, message: str, code: str, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.response = error_response(message, status=status, code=code, headers=headers)


class Guard:
    """See the module. `name_route` gives the pattern of the route that a scope belongs to."""

    def __init__(
        self,
        app: ASGIApp,
        config: ServeConfig,
        ring: KeyRing,
        drain: Drain,
        audit: AuditLog | None = None,
        name_route: Callable[[Scope], str] = lambda scope: "",
    ) -> None:
        self._app = app
        self._config = config
        self._ring = ring
        self._drain = drain
        self._audit = audit
        self._name_route = name_route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        open_path = scope["path"] in OPEN_PATHS
        visit = Visit(tenant=_NOBODY)
        scope[SCOPE_KEY] = visit
        if not open_path:
            self._drain.enter()
            visit.on_end(self._drain.leave)
            if self._audit is not None:
                visit.write_down(lambda: self._write_down(visit, scope))
        try:
            await self._admit(scope, receive, _noting(visit, send), visit, open_path)
        finally:
            visit.end()

    async def _admit(self, scope: Scope, receive: Receive, send: Send, visit: Visit, open_path: bool) -> None:
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            headers[name.decode("latin-1").lower()] = value.decode("latin-1")
        body = _Body(receive)
        try:
            self._check_origin(headers)
            if not open_path:
                visit.tenant = self._tenant(scope["headers"])
                self._check_drain(scope["path"])
                self._begin(visit)
            receive = await self._checked_body(scope["method"], headers, body)
        except _Refused as refused:
            if refused.status != 408 and "100-continue" not in headers.get("expect", "").lower():
                await body.discard()
            await refused.response(scope, receive, send)
            return
        except _Gone:
            return
        await self._app(scope, receive, send)

    def _write_down(self, visit: Visit, scope: Scope) -> None:
        assert self._audit is not None
        address = (scope.get("client") or ("",))[0]
        if visit.tenant is _NOBODY:
            self._audit.refuse(visit, address=address)
            return
        visit.route = self._name_route(scope)
        self._audit.write(visit, method=scope["method"][:20], address=address)

    def _check_origin(self, headers: dict[str, str]) -> None:
        allowed = self._config.allowed_hosts
        if allowed is None:
            return
        if _host_name(headers.get("host", "")) not in allowed:
            raise _Refused(403, "this server does not answer to that Host", "host_not_allowed")
        origin = headers.get("origin")
        if origin is not None and _origin_host(origin) not in allowed:
            raise _Refused(403, "pages of other sites may not use this server", "origin_not_allowed")

    def _tenant(self, headers: Iterable[tuple[bytes, bytes]]) -> Tenant:
        """Who asks. One header, one scheme, one key; anything else is nobody."""
        if self._ring.open:
            return Tenant()
        given = [value.decode("latin-1") for name, value in headers if name.lower() == b"authorization"]
        scheme, _, key = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        tenant = self._ring.find(key.strip())
        if tenant is None or scheme.lower() != "bearer":
            raise _Refused(401, "the API key is missing or wrong", "invalid_api_key", {"www-authenticate": "Bearer"})
        return tenant

    def _check_drain(self, path: str) -> None:
        if self._drain.begun and path not in DRAIN_PATHS:
            headers = {"retry-after": str(self._config.retry_after_seconds), "connection": "close"}
            raise _Refused(503, "the server is shutting down", "shutting_down", headers)

    def _begin(self, visit: Visit) -> None:
        allowance = visit.tenant.allowance
        try:
            allowance.begin()
        except LimitReached as error:
            headers = {"retry-after": str(error.retry_after_seconds)}
            raise _Refused(429, error.one_line(), "rate_limit_exceeded", headers) from None
        visit.hold_place(allowance.end)

    async def _checked_body(self, method: str, headers: dict[str, str], receive: _Body) -> Receive:
        """Read the whole body within the limits; returns a `receive` that hands it to the app."""
        length = headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 15 or int(length) > self._config.max_body_bytes):
            raise self._too_large()
        if method not in ("POST", "PUT", "PATCH") and not length and "transfer-encoding" not in headers:
            return receive.receive
        try:
            body = await asyncio.wait_for(self._read(receive.receive), self._config.body_timeout_seconds)
        except TimeoutError:
            raise _Refused(408, "the body took too long to come", "body_timeout", {"connection": "close"}) from None
        if body:
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise _Refused(415, "the body must be application/json", "unsupported_media_type")
            # Not on the event loop: megabytes take a while.
            deep = json_depth(body) if len(body) < LARGE_BYTES else await asyncio.to_thread(json_depth, body)
            if deep > self._config.max_json_depth:
                message = f"the JSON is nested deeper than {self._config.max_json_depth} levels"
                raise _Refused(400, message, "json_too_deep")
        return _replay(body, receive.receive)

    async def _read(self, receive: Receive) -> bytes:
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._config.max_body_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return b"".join(parts)

    def _too_large(self) -> _Refused:
        message = f"the body is larger than {self._config.max_body_bytes:,} bytes"
        return _Refused(413, message, "body_too_large", {"connection": "close"})


def _noting(visit: Visit, send: Send) -> Send:
    """`send` that notes the status and adds the headers of the tenant's limits."""

    async def noting(message: Message) -> None:
        if message["type"] == "http.response.start":
            visit.status = message["status"]
            more = visit.tenant.allowance.headers()
            if more:
                added = [(name.encode(), value.encode()) for name, value in more.items()]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            visit.answered()
        await send(message)

    return noting


class _Body:
    """What the client sends, and whether it has come to its end."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def discard(self) -> None:
        """Read on, within bounds: a client that is still sending when the connection closes never reads why."""
        size = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_SECONDS):
                while not self._ended and size < _DISCARD_BYTES:
                    size += len((await self.receive()).get("body", b""))


class _Gone(Exception):
    """The client left while its body was being read."""


def json_depth(body: bytes) -> int:
    """How deep brackets are nested outside strings."""
    outside = np.frombuffer(_STRING.sub(b"", body), dtype=np.uint8)
    opened, closed = _among(outside, b"[{"), _among(outside, b"]}")
    # In one sweep: a body of many short lists would keep the event loop for seconds if each bracket were looked at.
    return int(np.cumsum(opened.astype(np.int32) - closed).max(initial=0))


def _among(characters: np.ndarray, wanted: bytes) -> np.ndarray:
    return (characters == wanted[0]) | (characters == wanted[1])


def _origin_host(origin: str) -> str:
    """ "" for what is no origin."""
    try:
        return _host_name(urlsplit(origin).netloc if "//" in origin else "")
    except ValueError:
        return ""


def _host_name(host: str) -> str:
    """`LocalHost:8000` -> `localhost`, `[::1]:8000` -> `::1`."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
