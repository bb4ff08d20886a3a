"""`bloomery requests`: what is kept is listed, searched, shown, judged and written out, and mistakes are one line."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from bloomery.engine import GenerationResult, Timings
from bloomery.server.record import Record
from bloomery.server.store import FILE, RequestStore


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Of 130 requests, more than a page, one a day ago."""
    store = RequestStore(tmp_path / "home" / FILE, content=True)
    for number in range(130):
        answer = GenerationResult(
            text=f"melts at {number}", token_ids=[7], logprobs=[0.0], finish_reason="stop", prompt_token_ids=[1],
            seed=0, timings=Timings(),
        )  # fmt: skip
        when = time.time() - (86_400 if number == 0 else 0)
        store.add(
            Record(
                id=f"cmpl-{number}", route="/v1/completions", model="m" if number % 2 else "n", tenant="alice",
                status=200, time=when, seconds=1.0, prompt_ids=[[1, 2]], answers=[answer], completion_tokens=1,
                decode=lambda ids, special: "What is iron?",
            )
        )  # fmt: skip
    store.close()
    return tmp_path / "home"


def test_listed_and_searched(call, home: Path):
    at = ("--home", str(home))
    rows = json.loads(call("requests", "--limit", "3", "--json", *at).out)
    assert [row["id"] for row in rows] == ["cmpl-129", "cmpl-128", "cmpl-127"]
    assert len(json.loads(call("requests", "--limit", "1000", "--json", *at).out)) == 130  # page by page
    assert len(json.loads(call("requests", "--model", "n", "--limit", "1000", "--json", *at).out)) == 65
    found = json.loads(call("requests", "search", "MELTS AT 77", "--json", *at).out)
    assert [row["id"] for row in found] == ["cmpl-77"]
    hour_ago = str(time.time() - 3600)
    assert len(json.loads(call("requests", "--until", hour_ago, "--json", *at).out)) == 1
    assert "cmpl-129" in call("requests", *at).out and "no such request" in call("requests", "--key", "bob", *at).out


def test_shown_judged_and_written_out(call, home: Path):
    at = ("--home", str(home))
    shown = call("requests", "show", "cmpl-5", *at).out
    assert "What is iron?" in shown and "melts at 5" in shown
    assert "mean -0.50" in call("requests", "feedback", "cmpl-5", "--score", "-0.5", "--comment", "wrong", *at).out
    assert json.loads(call("requests", "show", "cmpl-5", "--json", *at).out)["feedback"][0]["comment"] == "wrong"
    lines = call("requests", "export", *at).out.splitlines()
    assert len(lines) == 130 and json.loads(lines[0])["answers"][0]["text"] == "melts at 129"
    (judged,) = call("requests", "export", "--judged", *at).out.splitlines()
    assert json.loads(judged)["id"] == "cmpl-5"


def test_mistakes_are_one_line(call, home: Path, tmp_path: Path):
    at = ("--home", str(home))
    assert "serve.store" in call.mistake("requests", "--home", str(tmp_path / "none"))
    assert "cmpl-999" in call.mistake("requests", "show", "cmpl-999", *at)
    assert "2026-05-31" in call.mistake("requests", "--since", "yesterday", *at)
    call.mistake("requests", "feedback", "cmpl-5", "--score", "2", *at)
    call.mistake("requests", "--limit", "0", *at)
