"""Errors as OpenAI's clients read them: {"error": {message, type, param, code}} on every route.

An error inside the server is logged whole and told to the client without details. This module does not know
which routes there are.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from bloomery.core.errors import BloomeryError, RequestError
from bloomery.core.printable import printable

log = logging.getLogger("bloomery.server")
_MAX_MESSAGE_CHARACTERS = 500
# OpenAI's codes where it has one: what an error is called that does not say itself.
_CODES = {
    401: "invalid_api_key",
    403: "permission_denied",
    404: "not_found",
    405: "method_not_allowed",
    408: "body_timeout",
    409: "conflict",
    413: "body_too_large",
    415: "unsupported_media_type",
    429: "rate_limit_exceeded",
    503: "server_busy",
    504: "deadline_exceeded",
}


def error_object(message: str, *, status: int, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The body of an error answer. The message is one line of sound UTF-8, of bounded length."""
    told = {"message": _sound(message), "type": _type(status), "param": _sound(param) if param else None}
    return {
        "error": {**told, "code": code or _CODES.get(status, "internal_error" if status >= 500 else "invalid_value")}
    }


def error_response(
    message: str,
    *,
    status: int,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    body = json.dumps(error_object(message, status=status, param=param, code=code)).encode()
    return Response(body, status_code=status, media_type="application/json", headers=dict(headers or {}))


def describe(error: BaseException) -> tuple[int, dict[str, Any]]:
    """HTTP status and error object of any exception; one that is not the user's is logged with its traceback."""
    if isinstance(error, RequestError):
        return error.status, error_object(error.one_line(), status=error.status, param=error.param, code=error.code)
    if isinstance(error, BloomeryError):
        log.error("request failed: %s", error.one_line())
        return 500, error_object(error.one_line(), status=500, code="internal_error")
    log.error("request failed", exc_info=error)
    return 500, error_object("the server failed; its log says why", status=500, code="internal_error")


def install(app: FastAPI, *, retry_after_seconds: int) -> None:
    """Give every error of the app, the framework's own included, the one form."""

    def on_error(request: Request, error: Exception) -> Response:
        status, body = describe(error)
        seconds = getattr(error, "retry_after_seconds", retry_after_seconds)
        headers = {"retry-after": str(seconds)} if status in (429, 503) else {}
        if status == 504:
            headers["x-should-retry"] = "false"  # clients try again after every 5xx
        return Response(json.dumps(body).encode(), status_code=status, media_type="application/json", headers=headers)

    def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return error_response(f"no route {request.method} {request.url.path}", status=404, code="not_found")
        if error.status_code == 405:
            message = f"{request.url.path} does not answer {request.method}"
            return error_response(message, status=405, code="method_not_allowed", headers=error.headers)
        return error_response(str(error.detail), status=error.status_code, headers=error.headers)

    def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        message, param, code = _first_problem(error)
        return error_response(message, status=400, param=param, code=code)

    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(BloomeryError, on_error)
    app.add_exception_handler(Exception, on_error)


def _first_problem(error: RequestValidationError) -> tuple[str, str | None, str]:
    """(message, param, code)"""
    problems = error.errors()
    if not problems:
        return "the request is invalid", None, "invalid_value"
    if problems[0]["type"] == "json_invalid":
        return f"the body is not JSON: {problems[0].get('ctx', {}).get('error', '')}", None, "invalid_json"
    # A value that fits no branch of a union has a problem per branch; the one deepest inside it says most.
    same_field = [p for p in problems if p["loc"][:2] == problems[0]["loc"][:2]]
    paths = [_path(problem["loc"]) for problem in same_field]
    path, problem = max(zip(paths, same_field, strict=True), key=lambda pair: len(pair[0]))
    param = ".".join(map(str, path)) or None
    if problem["type"] == "missing":
        return f"{param or 'body'}: {problem['msg']}", param, "missing_required_parameter"
    code = "invalid_type" if problem["type"].endswith("_type") else "invalid_value"
    return f"{param or 'body'}: {problem['msg']}", param, code


def _path(location: Sequence[int | str]) -> list[int | str]:
    """A validation error's place without "body" and without the names of union branches ("str", "list[int]")."""
    return [p for p in location[1:] if isinstance(p, int) or (p.isidentifier() and p not in ("str", "int"))]


def _type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    if status >= 500:
        return "server_error"
    return "invalid_request_error"


def _sound(text: str) -> str:
    return printable(text[:_MAX_MESSAGE_CHARACTERS]).encode("utf-8", "replace").decode("utf-8")
