"""POST /v1/embeddings against sentence-transformers, in every form of input and output."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from bloomery.core.workspace import Workspace
from bloomery.engine import TextEncoder
from bloomery.server import ServeConfig, build_app

ROUTE = "/v1/embeddings"
TEXTS = ["A bloomery is a small furnace.", "Ein Ofen. 火 🔥", "x", "[SEP] is text here"]


@pytest.fixture(scope="module")
def reference(minilm_folder: Path) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(minilm_folder), device="cpu")
    return theirs.encode(TEXTS[:3], convert_to_numpy=True)


def ask(client: TestClient, **body) -> dict:
    answer = client.post(ROUTE, json={"model": "minilm", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(client: TestClient, **body) -> dict:
    answer = client.post(ROUTE, json={"model": "minilm", **body})
    assert answer.status_code == 400, answer.text
    return answer.json()["error"]


def vectors(answer: dict) -> np.ndarray:
    assert [entry["index"] for entry in answer["data"]] == list(range(len(answer["data"])))
    return np.array([entry["embedding"] for entry in answer["data"]], dtype=np.float32)


def test_texts_give_the_references_vectors(both: TestClient, reference: np.ndarray):
    answer = ask(both, input=TEXTS[:3])
    # Float32 sums in another order; the vectors have length one.
    assert np.abs(vectors(answer) - reference).max() < 1e-5
    assert np.abs(vectors(ask(both, input=TEXTS[0]))[0] - reference[0]).max() < 1e-5
    assert answer["object"] == "list" and answer["model"] == "minilm"


def test_base64_is_little_endian_float32(both: TestClient):
    whole = vectors(ask(both, input=TEXTS))
    packed = ask(both, input=TEXTS, encoding_format="base64")
    read = [np.frombuffer(base64.b64decode(entry["embedding"]), dtype="<f4") for entry in packed["data"]]
    assert np.array_equal(np.array(read), whole)


def test_token_ids_are_taken_as_they_are(both: TestClient, minilm: TextEncoder):
    rows = [minilm.tokenizer.encode_with_special(text)[0] for text in TEXTS]
    by_text = vectors(ask(both, input=TEXTS))
    assert np.abs(vectors(ask(both, input=rows)) - by_text).max() < 1e-6
    assert np.abs(vectors(ask(both, input=rows[0]))[0] - by_text[0]).max() < 1e-6


def test_usage_counts_tokens_and_joules_and_reaches_the_books(both: TestClient, minilm: TextEncoder, workspace):
    usage = ask(both, input=TEXTS)["usage"]
    count = sum(len(minilm.tokenizer.encode_with_special(text)[0]) for text in TEXTS)
    assert usage["prompt_tokens"] == usage["total_tokens"] == count
    assert set(usage["energy_joules"]) == {"low", "central", "high", "method"}
    (row,) = workspace.ledger.requests()
    assert (row["route"], row["model"], row["status"], row["prompt_tokens"]) == (ROUTE, "minilm", 200, count)
    assert row["tenant"] == "anonymous" and row["energy_joules"] == usage["energy_joules"]
    assert f'prompt_tokens_total{{model_name="minilm"}} {count}.0' in both.get("/metrics").text


def test_dimensions_only_where_the_model_has_them(both: TestClient, minilm: TextEncoder, workspace: Workspace):
    assert vectors(ask(both, input="x", dimensions=384)).shape == (1, 384)
    assert refused(both, input="x", dimensions=256)["param"] == "dimensions"
    shorter = TextEncoder(minilm.encoder, minilm.tokenizer, name="minilm", shorter_dimensions=[64, 128])
    with TestClient(build_app(shorter, config=ServeConfig(api_key="")), base_url="http://localhost") as client:
        short, whole = (vectors(ask(client, input="x", dimensions=n))[0] for n in (64, 384))
        assert len(short) == 64 and np.abs(short - whole[:64] / np.linalg.norm(whole[:64])).max() < 1e-6
        assert "64, 128, 384" in refused(client, input="x", dimensions=65)["message"]


def test_a_long_text_is_refused_unless_it_may_be_cut(both: TestClient, minilm_folder: Path):
    text = "iron ore " * 400
    error = refused(both, input=["x", text])
    assert (error["param"], error["code"]) == ("input", "context_length_exceeded") and "256" in error["message"]
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(minilm_folder), device="cpu").encode([text], convert_to_numpy=True)
    assert np.abs(vectors(ask(both, input=text, truncate_prompt_tokens=-1)) - theirs).max() < 1e-5
    assert ask(both, input=text, truncate_prompt_tokens=16)["usage"]["prompt_tokens"] == 16
    assert refused(both, input=[5] * 300)["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("body", "param"),
    [({"input": []}, "input"), ({"input": [[]]}, "input.0"), ({"input": [10**6]}, "input"), ({"input": [True]}, None),
     ({"input": ["x", 3]}, None), ({}, "input"), ({"input": ["x"] * 2049}, None), ({"input": [[1]] * 2049}, "input"),
     ({"input": "x", "encoding_format": "int8"}, "encoding_format"), ({"input": "x", "dimensions": 0}, "dimensions"),
     ({"input": "x", "stream": True}, "stream"), ({"input": "x", "truncate_prompt_tokens": 1}, "max_length"),
     ({"input": "x", "truncate_prompt_tokens": 0}, "max_length")],
)  # fmt: skip
def test_what_is_refused(both: TestClient, body: dict, param: str | None):
    error = refused(both, **body)
    assert param is None or error["param"] == param


def test_the_other_kind_of_model_is_a_clear_error(both: TestClient):
    error = both.post(ROUTE, json={"model": "tiny", "input": "x"}).json()["error"]
    assert error["code"] == "unsupported_model" and error["param"] == "model" and "tiny" in error["message"]
    for route, rest in (("completions", {"prompt": "x"}), ("chat/completions", {"messages": [{"role": "user"}]})):
        if "messages" in rest:
            rest["messages"][0]["content"] = "x"
        answer = both.post(f"/v1/{route}", json={"model": "minilm", **rest})
        assert answer.status_code == 400 and "/v1/embeddings" in answer.json()["error"]["message"]


@pytest.fixture
def crowded(minilm: TextEncoder) -> Iterator[TestClient]:
    app = build_app(minilm, config=ServeConfig(api_key="", max_waiting=0))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


def test_places_come_back_after_errors_too(crowded: TestClient, minilm: TextEncoder, monkeypatch):
    for _ in range(3):
        assert refused(crowded, input=[10**6])
    with monkeypatch.context() as patched:
        patched.setattr(minilm, "embed_ids", lambda *args, **options: 1 / 0)
        assert crowded.post(ROUTE, json={"model": "minilm", "input": "x"}).status_code == 500
    assert ask(crowded, input="x")
