"""Upstream: vLLM's errors in OpenAI's form; nothing of what fails inside goes out."""

from __future__ import annotations

import asyncio
import json

import pytest

from bloomery.core.errors import RequestError
from bloomery.server.upstream import Upstream, error_of


@pytest.mark.parametrize(
    ("status", "told", "expected"),
    [
        (400, {"error": {"message": "bad", "code": 400, "param": "n"}}, (400, "invalid_value", "n")),
        (400, {"object": "error", "message": "bad", "code": 400, "param": None}, (400, "invalid_value", None)),
        (
            400,
            {"error": {"message": "maximum context length is 8", "code": 400}},
            (400, "context_length_exceeded", None),
        ),
        (404, {"error": {"message": "The model `x` does not exist.", "code": 404}}, (404, "model_not_found", None)),
        (422, {"detail": "no"}, (422, "invalid_value", None)),
        (401, {"error": "Unauthorized"}, (502, "engine_error", None)),
        (500, {"error": {"message": "secret"}}, (502, "engine_error", None)),
        (503, None, (502, "engine_error", None)),
    ],
)
def test_errors_in_openais_form(status: int, told, expected: tuple):
    error = error_of(status, json.dumps(told).encode())
    assert (error.status, error.code, error.param) == expected
    assert "secret" not in error.one_line() and error.message


@pytest.mark.parametrize("content", [b"", b"<html>", b"[1]", b'"x"'])
def test_whatever_it_says(content: bytes):
    assert error_of(400, content).status == 400 and error_of(500, content).status == 502


def test_where_nothing_answers():
    async def main() -> None:
        upstream = Upstream("http://127.0.0.1:9")
        for work in (upstream.ask("/x", {}), upstream.get("/x"), anext(upstream.stream("/x", {}))):
            with pytest.raises(RequestError) as caught:
                await work
            assert (caught.value.status, caught.value.code) == (503, "engine_unavailable")
        assert await upstream.text("/metrics") == ""
        await upstream.close()

    asyncio.run(main())
