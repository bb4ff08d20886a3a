"""Our own server behind the client for endpoints: the same answers as the engine's, labels, texts, and a corpus to
train on."""

from __future__ import annotations

import json
import runpy
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from bloomery.core.endpoint import Endpoint, EndpointConfig
from bloomery.core.errors import RequestError
from bloomery.core.messages import ChatOptions, chosen
from bloomery.core.workspace import Workspace
from bloomery.corpus import CurateConfig, curate
from bloomery.corpus.annotation.consensus import consensus
from bloomery.corpus.annotation.labelled import label_corpus
from bloomery.corpus.annotation.model_labels import model_labels
from bloomery.corpus.annotation.prompted import PromptConfig
from bloomery.corpus.annotation.question import Question
from bloomery.corpus.annotation.store import FILE, AnnotationStore
from bloomery.corpus.shards import read_documents
from bloomery.engine import LanguageModel, load
from bloomery.engine.chat_model import EngineChat
from bloomery.server import ServeConfig, build_app

make_tiny_model = runpy.run_path(str(Path(__file__).parents[1] / "tiny_model.py"))["make_tiny_model"]
ASK = [{"role": "user", "content": "Is iron a metal?"}]
QUESTION = Question(name="iron", kind="choice", instruction="Is it about iron?", labels=("yes", "no"))
KEY = "a-key-of-the-test"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load(make_tiny_model(tmp_path_factory.mktemp("models") / "tiny", context=1024), device="cpu")


@pytest.fixture(scope="module")
def url(model: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    workspace = Workspace(tmp_path_factory.mktemp("server"))
    app = build_app(model, workspace=workspace, config=ServeConfig(api_key=KEY, port=port))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < end
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}/v1"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def endpoint(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("BLOOMERY_ENDPOINT_KEY", KEY)
    with Endpoint(EndpointConfig(url=url, model="tiny", structure="structured_outputs")) as made:
        yield made


@pytest.mark.parametrize(
    "options",
    [
        ChatOptions(max_new_tokens=12, temperature=0.0),
        ChatOptions(max_new_tokens=12, temperature=0.9, top_p=0.9, seed=5),
        ChatOptions(choices=("yes", "no"), temperature=0.0, top_logprobs=5),
        ChatOptions(schema={"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}, seed=1),
    ],
)
def test_the_endpoint_says_what_the_engine_says(endpoint: Endpoint, model: LanguageModel, options: ChatOptions):
    told, wanted = endpoint.answer(ASK, options), EngineChat(model).answer(ASK, options)
    assert (told.text, told.finish_reason) == (wanted.text, wanted.finish_reason)
    assert told.usage.prompt_tokens == wanted.usage.prompt_tokens
    assert told.usage.completion_tokens == wanted.usage.completion_tokens
    # Our server tells joules wherever the engine can measure or estimate them.
    assert told.usage.energy_joules.method == wanted.usage.energy_joules.method
    if options.top_logprobs is not None:
        assert told.tokens is not None and wanted.tokens is not None
        assert [one.data for one in told.tokens] == [one.data for one in wanted.tokens]
        for one, other in zip(told.tokens, wanted.tokens, strict=True):
            assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
            assert [top.data for top in one.top] == [top.data for top in other.top]


def test_choices_as_a_schema(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BLOOMERY_ENDPOINT_KEY", KEY)
    with Endpoint(EndpointConfig(url=url, model="tiny")) as endpoint:
        found = endpoint.answer(ASK, ChatOptions(choices=("yes", "no"), seed=0, top_logprobs=20))
    assert chosen(found.text, ("yes", "no")) is not None and json.loads(found.text)


def test_a_wrong_key_and_a_wrong_model(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BLOOMERY_ENDPOINT_KEY", "wrong")
    with Endpoint(EndpointConfig(url=url, model="tiny")) as endpoint, pytest.raises(RequestError) as caught:
        endpoint.answer(ASK, ChatOptions())
    assert caught.value.status == 401
    monkeypatch.setenv("BLOOMERY_ENDPOINT_KEY", KEY)
    with Endpoint(EndpointConfig(url=url, model="none")) as endpoint, pytest.raises(RequestError) as caught:
        endpoint.answer(ASK, ChatOptions())
    assert caught.value.status == 404


@pytest.mark.parametrize(
    "asked",
    [
        Question(name="kinds", kind="choices", instruction="Which?", labels=("iron", "tin", "gold", "none of them")),
        Question(name="stars", kind="rating", instruction="How good is it?", low=1, high=5),
    ],
    ids=lambda one: one.kind,
)
def test_a_model_that_knows_nothing_answers_in_the_form_asked_for(
    url: str, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Question
):
    """Drawn from random weights, most of an answer would be white space if the form allowed it."""
    monkeypatch.setenv("BLOOMERY_ENDPOINT_KEY", KEY)
    lines = [json.dumps({"text": f"The furnace number {n} smelted iron."}) for n in range(30)]
    (tmp_path / "d.jsonl").write_text("\n".join(lines))
    corpus = curate(tmp_path / "d.jsonl", config=CurateConfig(decontaminate_words=0), workspace=workspace, workers=1)
    documents = [one for split in ("train", "validation", "test") for one in read_documents(corpus, split)]
    config = PromptConfig(concurrency=8, temperature=1.0, max_new_tokens=48)
    with Endpoint(EndpointConfig(url=url, model="tiny")) as endpoint, AnnotationStore(workspace.root / FILE) as store:
        report = model_labels(store, asked, corpus, documents, endpoint, config=config, workspace=workspace)
        values = [one.value for one in store.answers(asked)]
    assert (report.answered, report.unanswered, report.failed) == (30, 0, 0), report
    assert len({json.dumps(one) for one in values}) > 1


def test_from_documents_to_labels_to_a_corpus(
    endpoint: Endpoint, model: LanguageModel, workspace: Workspace, tmp_path: Path
):
    lines = [json.dumps({"text": f"The furnace number {n} smelted iron."}) for n in range(40)]
    (tmp_path / "d.jsonl").write_text("\n".join([*lines, json.dumps({"text": "iron " * 3000})]))
    config = CurateConfig(decontaminate_words=0)
    corpus = curate(tmp_path / "d.jsonl", config=config, workspace=workspace, workers=1)
    documents = [one for split in ("train", "validation", "test") for one in read_documents(corpus, split)]
    with AnnotationStore(workspace.root / FILE) as store:
        report = model_labels(
            store, QUESTION, corpus, documents, endpoint, config=PromptConfig(concurrency=8), workspace=workspace
        )
        # The last document is longer than the model's context, which is its own fault and not the endpoint's.
        assert (report.answered, report.unanswered, report.failed) == (40, 1, 0), report
        answers = list(store.answers(QUESTION))
        said = [one for one in answers if one.value is not None]
        assert all(sum(one.probabilities.values()) == pytest.approx(1) for one in said if one.probabilities)
        assert all(one.prompt_tokens and one.completion_tokens and one.seconds for one in said)
        again = model_labels(store, QUESTION, corpus, documents, endpoint, workspace=workspace)
        assert (again.known, again.asked) == (41, 0)
    labels = consensus(QUESTION, answers)
    made = label_corpus(corpus, labels, workspace=workspace)
    assert {one.metadata["label"] for one in read_documents(made, "train")} <= {"yes", "no"}
