"""Errors fit on one line and point somewhere."""

from __future__ import annotations

from bloomery.core.errors import ConfigError, MissingExtraError, RequestError, nearest


def test_one_line() -> None:
    assert ConfigError("a\nb\x1b", hint="do c").one_line() == "a b  (do c)"
    assert "bloomery[gpu]" in MissingExtraError("x", "gpu", "this").one_line()
    assert RequestError("no", param="top_p", status=422).status == 422


def test_nearest() -> None:
    assert nearest("stpes", ["steps", "name"]) == 'did you mean "steps"?'
    assert nearest("zzz", ["b", "a"]) == "known: a, b"
