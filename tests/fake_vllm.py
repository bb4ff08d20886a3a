"""A stand-in for vLLM's HTTP contract, as its documentation has it, for tests: no model, it says a prompt's words back.

    python tests/fake_vllm.py serve MODEL --host HOST --port PORT --served-model-name NAME

Words in a prompt make it misbehave: "slow", "toolong", "oldstyle", "boom", "midway", "short", "die". GET /seen tells
the last body and how many streams were left before their end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

SEEN: dict = {"body": None, "left": 0}
NAME = ["m"]


def _words(body: dict) -> list[str]:
    if "messages" in body:
        return str(body["messages"][-1]["content"]).split()
    return str(body.get("prompt", body.get("input", ""))).split()


def _error(message: str, status: int, kind: str = "BadRequestError") -> Response:
    inner = {"message": message, "type": kind, "param": None, "code": status}
    return JSONResponse({"error": inner}, status)


def _usage(words: list[str], new: int) -> dict:
    return {"prompt_tokens": len(words), "completion_tokens": new, "total_tokens": len(words) + new}


async def generate(request: Request) -> Response:
    body = await request.json()
    SEEN["body"] = body
    words, chat = _words(body), "messages" in body
    if "die" in words:
        os._exit(3)
    if "boom" in words:
        return _error("secret stack", 500, "InternalServerError")
    if "toolong" in words:
        return _error("This model's maximum context length is 8 tokens.", 400)
    if "oldstyle" in words:
        old = {"object": "error", "message": "bad top_k", "type": "BadRequestError", "param": "top_k", "code": 400}
        return JSONResponse(old, 400)
    told = words[: body.get("max_tokens") or 16]
    kind = "chat.completion" if chat else "text_completion"
    head = {"id": "theirs", "created": 1, "model": body["model"]}
    if not body.get("stream"):
        if "slow" in words:
            await asyncio.sleep(0.1 * len(told))
        text = " ".join(told)
        inner = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        choices = [{"index": i, **inner, "logprobs": None, "finish_reason": "stop"} for i in range(body.get("n") or 1)]
        return JSONResponse({**head, "object": kind, "choices": choices, "usage": _usage(words, len(told))})

    async def events():
        done = False
        try:
            for place, word in enumerate(told):
                if "slow" in words:
                    await asyncio.sleep(0.1)
                inner = {"delta": {"content": word + " "}} if chat else {"text": word + " "}
                if chat and place == 0:
                    inner["delta"]["role"] = "assistant"
                choice = {"index": 0, **inner, "logprobs": None, "finish_reason": None}
                yield _event({**head, "object": kind + ".chunk" * chat, "choices": [choice]})
            if "midway" in words:
                yield _event({"error": {"message": "secret", "type": "InternalServerError", "code": 500}})
                done = True
                return
            if "short" in words:
                done = True
                return
            inner = {"delta": {}} if chat else {"text": ""}
            yield _event({**head, "choices": [{"index": 0, **inner, "finish_reason": "stop", "stop_reason": None}]})
            if (body.get("stream_options") or {}).get("include_usage"):
                yield _event({**head, "choices": [], "usage": _usage(words, len(told))})
            yield b"data: [DONE]\n\n"
            done = True
        finally:
            SEEN["left"] += not done

    return StreamingResponse(events(), media_type="text/event-stream")


def _event(value: dict) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


async def embeddings(request: Request) -> Response:
    body = await request.json()
    words = _words(body)
    data = [{"object": "embedding", "index": 0, "embedding": [float(len(words))]}]
    usage = {"prompt_tokens": len(words), "total_tokens": len(words), "completion_tokens": 0}
    return JSONResponse({"id": "theirs", "object": "list", "data": data, "model": body["model"], "usage": usage})


async def tokenize(request: Request) -> Response:
    words = _words(await request.json())
    return JSONResponse({"count": len(words), "max_model_len": 64, "tokens": list(range(len(words)))})


async def models(request: Request) -> Response:
    data = [{"id": NAME[0], "object": "model", "owned_by": "vllm", "max_model_len": 64}]
    return JSONResponse({"object": "list", "data": data})


class Keyed:
    """Everything but /health wants the key, as `vllm serve` has it with VLLM_API_KEY."""

    def __init__(self, app) -> None:
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
        key = os.environ.get("VLLM_API_KEY")
        given = dict(scope.get("headers", ())).get(b"authorization", b"").decode()
        if scope["type"] == "http" and key and scope["path"] != "/health" and given != f"Bearer {key}":
            await JSONResponse({"error": "Unauthorized"}, 401)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("serve")
    parser.add_argument("model")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int)
    parser.add_argument("--served-model-name", default="m")
    options, _ = parser.parse_known_args()
    if options.model == "broken":
        raise SystemExit("no such model")
    NAME[0] = options.served_model_name
    routes = [
        Route("/health", lambda request: Response()),
        Route("/metrics", lambda request: PlainTextResponse("vllm:num_requests_running 0.0\n")),
        Route("/seen", lambda request: JSONResponse(SEEN)),
        Route("/v1/models", models),
        Route("/v1/completions", generate, methods=["POST"]),
        Route("/v1/chat/completions", generate, methods=["POST"]),
        Route("/v1/embeddings", embeddings, methods=["POST"]),
        Route("/tokenize", tokenize, methods=["POST"]),
    ]
    uvicorn.run(Keyed(Starlette(routes=routes)), host=options.host, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
