"""A tiny corpus, its tokens and a tiny model."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from bloomery.core.artifact import Artifact
from bloomery.core.errors import RequestError
from bloomery.core.messages import ChatAnswer, ChatDelta, ChatOptions, Message, Usage
from bloomery.core.workspace import Workspace
from bloomery.corpus import CurateConfig, curate
from bloomery.engine import LanguageModel, load
from bloomery.evaluate.subject import Opened
from bloomery.evaluate.tasks import Subject
from bloomery.tokenizer import TokenizerConfig, tokenize, train_tokenizer
from bloomery.training import PretrainConfig, pretrain


class Made(NamedTuple):
    """What the measuring stage reads."""

    workspace: Workspace
    corpus: Artifact
    tokens: Artifact
    model: Artifact
    loaded: LanguageModel


@pytest.fixture(scope="package")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder: Path = tmp_path_factory.mktemp("evaluate")
    (folder / "texts").mkdir()
    rng = random.Random(2)
    words = ["grüße", "code", "return", "value", "naïve", "日本", "loop", "if", "else", "none"]
    for n in range(60):
        text = " ".join(rng.choice(words) for _ in range(rng.randrange(20, 150)))
        (folder / "texts" / f"{n:02}.txt").write_text(text, encoding="utf-8")
    workspace = Workspace(folder / "home")
    config = CurateConfig(sources=(str(folder / "texts"),), test_fraction=0.2, validation_fraction=0.1)
    corpus = curate(config=config, workspace=workspace)
    tokenizer = train_tokenizer(corpus, config=TokenizerConfig(vocab_size=300), workspace=workspace)
    tokens = tokenize(corpus, tokenizer, workspace=workspace)
    sizes = PretrainConfig(
        steps=6, hidden_size=64, num_hidden_layers=1, context_length=16, batch_rows=4, precision="float32", device="cpu"
    )
    model = pretrain(corpus, tokenizer, tokens=tokens, config=sizes, workspace=workspace)
    return Made(workspace, corpus, tokens, model, load(model.path))


class Says:
    """A chat model that says what a function makes of its question, or raises it."""

    name = "says"

    def __init__(self, said: Callable[[str], str | RequestError]) -> None:
        self.said = said
        self.asked: list[str] = []

    def answer(self, messages: Sequence[Message], options: ChatOptions) -> ChatAnswer:
        question = messages[-1]["content"]
        self.asked.append(question)
        said = self.said(question)
        if isinstance(said, RequestError):
            raise said
        usage = Usage(prompt_tokens=len(question), completion_tokens=len(said))
        return ChatAnswer(text=said, finish_reason="stop", usage=usage, seconds=0.01)

    def stream(self, messages: Sequence[Message], options: ChatOptions) -> Iterator[ChatDelta]:
        raise NotImplementedError

    def opened(self) -> Opened:
        """As a server's model is opened: asked anew by every evaluation that is published."""
        return Opened(subject=Subject(name=self.name, chat=self), identity=self.name, lasting=False)


@pytest.fixture
def says() -> type[Says]:
    return Says


class JudgeServer:
    """An endpoint that judges by a rule: right is what says "iron", and better what is shown first, or, once `fair`,
    what says "iron" alone. `refuses`: the next answer's status, if it is not 200."""

    def __init__(self) -> None:
        self.fair, self.refuses, self.asked = True, 0, 0
        judge = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                judge.asked += 1
                text = json.dumps(judge.answer(body)).encode()
                self.send_response(judge.refuses or 200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/v1#judge"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, body: dict) -> dict:
        if self.refuses:
            return {"error": {"message": "not today", "code": "refused"}}
        text = body["messages"][-1]["content"]
        words = body["response_format"]["json_schema"]["schema"]["properties"]["answer"]["enum"]
        if "first" in words:
            first = text.partition("The first answer:")[2].partition("The second answer:")[0]
            said = "first" if not self.fair or "iron" in first else "second"
        else:
            said = words[-1] if "iron" in text.partition("The answer:")[2] else words[0]
        message = {"role": "assistant", "content": json.dumps({"answer": said})}
        usage = {"prompt_tokens": 100, "completion_tokens": 2}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def judge_server() -> Iterator[JudgeServer]:
    server = JudgeServer()
    yield server
    server.close()
