"""Errors: one form, one line, no details of the inside, always encodable."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.errors import DataError, RequestError
from bloomery.server.errors import describe, error_object, error_response


@given(st.text(st.characters(), max_size=2_000))
def test_any_message_becomes_one_bounded_line(message: str):
    body = error_object(message, status=400, param=message or None)
    text = body["error"]["message"]
    assert "\n" not in text and len(text) <= 500
    json.dumps(body).encode()


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (404, "invalid_request_error"), (429, "rate_limit_error"), (500, "server_error")],
)
def test_types(status: int, kind: str):
    body = json.loads(bytes(error_response("m", status=status, code="c", headers={"x-a": "b"}).body))
    assert body == {"error": {"message": "m", "type": kind, "param": None, "code": "c"}}


def test_a_request_error_keeps_its_parts():
    error = RequestError("wrong", hint="mend it", param="n", code="invalid_value", status=422)
    status, body = describe(error)
    assert status == 422
    assert body["error"] == {
        "message": "wrong (mend it)",
        "type": "invalid_request_error",
        "param": "n",
        "code": "invalid_value",
    }


def test_other_errors_are_logged_and_not_told(caplog):
    with caplog.at_level(logging.ERROR, "bloomery.server"):
        status, body = describe(KeyError("/home/me/secret"))
    assert status == 500 and "secret" not in body["error"]["message"]
    assert "secret" in caplog.text
    status, body = describe(DataError("the model's output is not a number"))
    assert status == 500 and "not a number" in body["error"]["message"]
