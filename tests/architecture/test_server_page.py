"""docs/server.md names every parameter and route that the server has beyond OpenAI's, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bloomery.server.embeddings import EmbeddingsBody
from bloomery.server.responses import ResponsesBody
from bloomery.server.schemas import ChatBody, CompletionBody

PROJECT = Path(__file__).resolve().parents[2]


def rows(column: str) -> list[str]:
    """The first cells of the table whose first title is `column`."""
    page = (PROJECT / "docs" / "server.md").read_text(encoding="utf-8")
    table = page.split(f"| {column} |")[1].split("\n\n")[0]
    return [line.split("|")[1] for line in table.splitlines()[2:]]


def test_parameters():
    pytest.importorskip("openai")
    from openai.types.chat.completion_create_params import CompletionCreateParamsBase as Chat
    from openai.types.completion_create_params import CompletionCreateParamsBase as Completion
    from openai.types.embedding_create_params import EmbeddingCreateParams
    from openai.types.responses.response_create_params import ResponseCreateParamsBase as Responses

    pairs = ((ChatBody, Chat), (CompletionBody, Completion), (ResponsesBody, Responses))
    ours: set[str] = set(EmbeddingsBody.model_fields) - set(EmbeddingCreateParams.__annotations__)
    for body, theirs in pairs:
        ours |= set(body.model_fields) - set(theirs.__annotations__)
    theirs_elsewhere = {"stream", "seed", "stop", "logit_bias", "presence_penalty", "frequency_penalty"}
    named = {name for cell in rows("in a body") for name in re.findall(r"`(\w+)`", cell)}
    assert named == ours - theirs_elsewhere


def test_routes():
    app = (PROJECT / "src" / "bloomery" / "server" / "app.py").read_text(encoding="utf-8")
    from bloomery.server import adapters, loading, store_routes, tokenizing

    cells = re.findall(r"`(GET|POST|DELETE) (\S+?)`", "".join(rows("route")))
    named = {f"{method} {route}" for method, route in cells}
    assert named == {
        *(f"POST {tokenizing.TOKENIZE}", f"POST {tokenizing.DETOKENIZE}", f"GET {tokenizing.INFO}"),
        *(f"POST {loading.LOAD}", "DELETE /v1/models/{model}"),
        *(f"POST {adapters.LOAD}", f"POST {adapters.UNLOAD}"),
        *(f"GET {store_routes.ROUTE}", "GET /v1/requests/{id}", "POST /v1/requests/{id}/feedback"),
        *("GET /health", "GET /metrics"),
    }
    # 12 here, and OpenAI's: models (two), completions, chat, responses (three), embeddings.
    assert len(re.findall(r"^        app\.(?:get|post|delete)\(", app, re.MULTILINE)) == len(named) + 8
