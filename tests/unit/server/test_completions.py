"""/v1/completions: prompts of every form, echo, log-probabilities as lm-eval reads them, streams."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient

from bloomery.engine import LanguageModel


def post(client: TestClient, **body):
    answer = client.post("/v1/completions", json={"model": "tiny", "max_tokens": 8, "seed": 1, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def events(client: TestClient, route: str, **body) -> list:
    with client.stream("POST", route, json={"model": "tiny", "stream": True, "seed": 1, **body}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line[6:]) for line in lines[:-1]]


def test_every_form_of_prompt(client: TestClient, tiny: LanguageModel):
    ids = tiny.encode_prompt("Once")
    one = post(client, prompt="Once")
    assert one["object"] == "text_completion" and one["id"].startswith("cmpl-")
    assert one["usage"]["prompt_tokens"] == len(ids)
    assert post(client, prompt=ids)["choices"] == one["choices"]
    two = post(client, prompt=["Once", "Once"])
    assert [c["text"] for c in two["choices"]] == [one["choices"][0]["text"]] * 2
    assert [c["index"] for c in two["choices"]] == [0, 1]
    assert post(client, prompt=[ids, ids])["choices"] == two["choices"]
    assert one["choices"][0]["text"] == tiny.generate("Once", max_new_tokens=8, seed=1).text


def test_n_choices_differ_by_seed_and_repeat(client: TestClient):
    first, again = (post(client, prompt="Once", n=3, temperature=1.5) for _ in range(2))
    assert first["choices"] == again["choices"]
    assert len({c["text"] for c in first["choices"]}) == 3
    assert first["choices"][0] == post(client, prompt="Once", temperature=1.5)["choices"][0]


def test_echo_scores_as_lm_eval_reads_them(client: TestClient, tiny: LanguageModel):
    ids = [tiny.encode_prompt("Once upon a time"), tiny.encode_prompt("def smelt(ore")]
    answer = post(client, prompt=ids, echo=True, logprobs=1, max_tokens=1, temperature=0, seed=1234)
    for choice, prompt in zip(answer["choices"], ids, strict=True):
        logprobs = choice["logprobs"]
        assert {len(logprobs[name]) for name in logprobs} == {len(prompt) + 1}
        assert logprobs["token_logprobs"][0] is None and logprobs["top_logprobs"][0] is None
        assert all(isinstance(p, float) for p in logprobs["token_logprobs"][1:])
        rows = tiny.logits(prompt)[0].log_softmax(dim=-1)
        expected = [float(rows[i, token]) for i, token in enumerate(prompt[1:])]
        assert logprobs["token_logprobs"][1:-1] == pytest.approx(expected, abs=1e-5)
        for row, top in zip(rows, logprobs["top_logprobs"][1:], strict=True):
            # The arg max is among the alternatives, which hold the chosen token too.
            assert max(top.values()) == pytest.approx(float(row.max()), abs=1e-5)
            assert 1 <= len(top) <= 2
        last = logprobs["tokens"][-1]
        assert logprobs["top_logprobs"][-1][last] == logprobs["token_logprobs"][-1]


def test_echo_with_nothing_new_and_as_a_stream(client: TestClient):
    answer = post(client, prompt="Once upon", echo=True, max_tokens=0, logprobs=0)
    assert answer["choices"][0]["text"] == "Once upon"
    assert answer["usage"]["completion_tokens"] == 0
    whole = post(client, prompt="Once upon", echo=True, logprobs=2)["choices"][0]
    parts = events(client, "/v1/completions", prompt="Once upon", echo=True, logprobs=2, max_tokens=8)
    assert "".join(p["choices"][0]["text"] for p in parts) == whole["text"]
    for name, values in whole["logprobs"].items():
        assert [v for p in parts for v in p["choices"][0]["logprobs"][name]] == values


def test_a_stream_equals_the_whole_and_ends_with_usage(client: TestClient):
    whole = post(client, prompt=["Once", "def"], n=2, temperature=1.4)
    parts = events(
        client,
        "/v1/completions",
        prompt=["Once", "def"],
        n=2,
        temperature=1.4,
        max_tokens=8,
        stream_options={"include_usage": True},
    )
    assert parts[-1]["choices"] == []
    same = ("prompt_tokens", "completion_tokens", "total_tokens")
    assert [parts[-1]["usage"][k] for k in same] == [whole["usage"][k] for k in same]
    assert all(p["usage"] is None for p in parts[:-1])
    for choice in whole["choices"]:
        mine = [p["choices"][0] for p in parts[:-1] if p["choices"][0]["index"] == choice["index"]]
        assert "".join(c["text"] for c in mine) == choice["text"]
        assert mine[-1]["finish_reason"] == choice["finish_reason"]


def test_stop_strings(client: TestClient, tiny: LanguageModel):
    text = tiny.generate("Once", max_new_tokens=40, seed=5, ignore_eos=True).text
    stop = text[6:9]
    choice = post(client, prompt="Once", seed=5, max_tokens=40, stop=stop)["choices"][0]
    assert choice["text"] == text[: text.find(stop)] and choice["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("body", "allowed"),
    [
        ({"guided_choice": ["iron", "ore"]}, {"iron", "ore"}),
        ({"guided_regex": "a|b"}, {"a", "b"}),
        ({"guided_grammar": 'start: "x" | "y"'}, {"x", "y"}),
        ({"guided_json": {"enum": [1, 2]}}, {"1", "2"}),
        ({"structured_outputs": {"choice": ["iron"]}}, {"iron"}),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [3]}}}}, {"3"}),
    ],
    ids=str,
)
def test_structured_answers_as_on_the_chat_route(client: TestClient, body: dict, allowed: set):
    asked = {"model": "tiny", "prompt": "Once", "max_tokens": 30, "n": 2, "temperature": 1.5, "seed": 1}
    choices = client.post("/v1/completions", json=asked | body).json()["choices"]
    assert {choice["text"] for choice in choices} <= allowed and len(choices) == 2
    lines = client.post("/v1/completions", json=asked | body | {"stream": True, "n": 1}).text.splitlines()
    text = "".join(json.loads(line[6:])["choices"][0]["text"] for line in lines if line and "[DONE]" not in line)
    assert text in allowed


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"guided_regex": "("}, "guided_regex"),
        ({"guided_choice": ["a"], "guided_regex": "a"}, "guided_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"tools": [{}]}, "tools"),
    ],
    ids=str,
)
def test_structures_that_cannot_be_kept_to_are_named(client: TestClient, body: dict, param: str):
    answer = client.post("/v1/completions", json={"model": "tiny", "prompt": "Once", **body})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param
