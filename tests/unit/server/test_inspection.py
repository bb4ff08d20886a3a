"""Looking inside a served request: candidates before and after sampling, the timeline, rows of attention; by right."""

from __future__ import annotations

import json
import math

import pytest
import torch
from fastapi.testclient import TestClient

from bloomery.engine import LanguageModel
from bloomery.server import ServeConfig, build_app

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
BODY = {"model": "tiny", "prompt": "Once upon", "max_tokens": 5, "seed": 3, "temperature": 0.8, "top_k": 4}


def test_each_token_says_how_it_came(client: TestClient, tiny: LanguageModel):
    choice = client.post(COMPLETIONS, json=BODY | {"inspect": {"probabilities": 6}}).json()["choices"][0]
    tokens = choice["inspect"]["tokens"]
    assert [t["phase"] for t in tokens] == ["prefill"] + ["decode"] * (len(tokens) - 1)
    assert all(t["step"]["seconds"] > 0 and t["step"]["sequences"] == 1 for t in tokens)
    ids = tiny.encode_prompt("Once upon")
    for token in tokens:
        row = torch.log_softmax(tiny.logits(ids)[0, -1], -1)
        for one in token["candidates"]:
            # The engine computes the same row through its cache: float32 sums in another order.
            assert one["logprob"] == pytest.approx(float(row[one["token_id"]]), abs=1e-4)
        kept = [math.exp(c["chosen_from"]) for c in token["candidates"] if c["chosen_from"] is not None]
        assert len(kept) == 4 and sum(kept) == pytest.approx(1.0, abs=1e-4)
        ids = [*ids, token["token_id"]]
    assert client.post(COMPLETIONS, json=BODY).json()["choices"][0].get("inspect") is None


def test_rows_of_attention_are_those_of_the_glass_box(client: TestClient, tiny: LanguageModel):
    asked = {"attention": [{"layer": 0, "head": 1, "query": 2}, {"layer": -1, "head": 3}]}
    choice = client.post(COMPLETIONS, json=BODY | {"inspect": asked}).json()["choices"][0]
    first, last = choice["inspect"]["attention"]
    assert (first["layer"], first["head"], first["query"]["index"]) == (0, 1, 2)
    for row in (first, last):
        assert sum(key["weight"] for key in row["keys"]) == pytest.approx(1.0, abs=1e-5)
        assert row["max_difference"] < 1e-5 * max(1.0, row["largest_served"])
    assert last["query"]["index"] == len(tiny.encode_prompt("Once upon")) + 4
    assert [key["masked"] is None for key in first["keys"]][:4] == [False, False, False, True]


def test_a_stream_tells_it_at_the_end_of_a_choice(client: TestClient):
    body = BODY | {"stream": True, "n": 2, "inspect": {"probabilities": 1}}
    lines = client.post(COMPLETIONS, json=body).text.split("\n\n")
    entries = [c for line in lines if line.startswith("data: {") for c in json.loads(line[6:])["choices"]]
    told = {c["index"]: c["inspect"] for c in entries if "inspect" in c}
    assert sorted(told) == [0, 1] and all(len(one["tokens"]) == 5 for one in told.values())
    assert all(c["finish_reason"] for c in entries if "inspect" in c)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"probabilities": 0}, "inspect.probabilities"),
        ({"probabilities": 101}, "inspect.probabilities"),
        ({"surprise": 1}, "inspect.surprise"),
        ({"attention": [{}] * 17}, "inspect.attention"),
        ({"attention": [{"layer": 99}]}, "inspect.attention"),
        ({"attention": [{"query": 10_000}]}, "inspect.attention"),
    ],
)
def test_what_is_out_of_bounds_is_refused(client: TestClient, asked: dict, param: str):
    for route, body in ((COMPLETIONS, BODY), (CHAT, {"model": "tiny", "messages": [{"role": "user", "content": "a"}]})):
        answer = client.post(route, json=body | {"max_tokens": 2, "inspect": asked})
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == param


def test_a_key_without_the_right_is_refused(tiny: LanguageModel, tmp_path):
    from bloomery.server.keys import add_key

    path = tmp_path / "keys.toml"
    plain, seeing = add_key(path, "plain"), add_key(path, "seeing", rights=("inspect",))
    app = build_app(tiny, config=ServeConfig(keys=str(path)))
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        for key, status in ((plain, 403), (seeing, 200)):
            headers = {"authorization": f"Bearer {key}"}
            answer = client.post(COMPLETIONS, json=BODY | {"inspect": {}}, headers=headers)
            assert answer.status_code == status, answer.text
            response = {"model": "tiny", "input": "Hi", "max_output_tokens": 2, "inspect": {}}
            assert client.post("/v1/responses", json=response, headers=headers).status_code == status
            assert client.post(COMPLETIONS, json=BODY, headers=headers).status_code == 200


def test_penalties_bias_and_best_of_reach_the_engine(client: TestClient, tiny: LanguageModel):
    base = BODY | {"temperature": 0.0, "max_tokens": 8}
    wanted = tiny.tokenizer.encode("e")[0]
    biased = client.post(COMPLETIONS, json=base | {"logit_bias": {str(wanted): 100}, "logprobs": 0}).json()["choices"][
        0
    ]
    assert biased["text"] == "e" * 8
    punished = client.post(COMPLETIONS, json=base | {"logit_bias": {str(wanted): 6}, "frequency_penalty": 2}).json()
    assert punished["choices"][0]["text"] != biased["text"]
    options = {"max_new_tokens": 8, "temperature": 1.5, "seed": 3}
    best = tiny.samples("Once upon", 2, best_of=5, **options)
    body = {
        "model": "tiny",
        "prompt": "Once upon",
        "max_tokens": 8,
        "temperature": 1.5,
        "seed": 3,
        "n": 2,
        "best_of": 5,
    }
    answer = client.post(COMPLETIONS, json=body).json()
    assert [c["text"] for c in answer["choices"]] == [one.text for one in best]
    assert [c["index"] for c in answer["choices"]] == [0, 1]
    assert answer["usage"]["completion_tokens"] > 16  # all that were drawn were paid for
    for wrong in (
        {"best_of": 1},
        {"best_of": 5, "stream": True},
        {"logit_bias": {"x": 1}},
        {"logit_bias": {"9999": 1}},
    ):
        assert client.post(COMPLETIONS, json=body | {"n": 2} | wrong).status_code == 400, wrong


def test_a_response_of_the_responses_route_tells_it_too(client: TestClient):
    body = {"model": "tiny", "input": "Hi", "max_output_tokens": 5, "seed": 3, "inspect": {"probabilities": 2}}
    answer = client.post("/v1/responses", json=body).json()
    tokens = answer["inspect"]["tokens"]
    assert len(tokens) == answer["usage"]["output_tokens"] and len(tokens[0]["candidates"]) == 2
    lines = client.post("/v1/responses", json=body | {"stream": True}).text.splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    told = events[-1]["response"]["inspect"]["tokens"]
    assert [one["token_id"] for one in told] == [one["token_id"] for one in tokens]
    assert all("inspect" not in event.get("response", {}) for event in events[:-1])
    refused = client.post("/v1/responses", json=body | {"inspect": {"attention": [{"layer": 99}]}})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "inspect.attention")


def test_what_was_looked_at_is_not_kept_with_the_response(tiny: LanguageModel, workspace):
    app = build_app(tiny, workspace=workspace, config=ServeConfig(api_key="", store="content"))
    with TestClient(app, base_url="http://localhost") as client:
        body = {"model": "tiny", "input": "Hi", "max_output_tokens": 5, "inspect": {}}
        answer = client.post("/v1/responses", json=body).json()
        assert answer.pop("inspect") and client.get(f"/v1/responses/{answer['id']}").json() == answer
