"""Beam search over HTTP: the engine's beams, the best first, on both routes; what does not go with them is refused."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

from bloomery.core.workspace import Workspace
from bloomery.engine import EngineConfig, LanguageModel, beams
from bloomery.server import ServeConfig, build_app

ASKED = {"model": "tiny", "prompt": "Once upon a time", "max_tokens": 8, "use_beam_search": True}


def ask(client: TestClient, **more):
    return client.post("/v1/completions", json={**ASKED, **more})


def test_the_best_of_the_beams_are_told_the_best_first(client: TestClient, tiny: LanguageModel, workspace: Workspace):
    expected = tiny.beam_search("Once upon a time", beams=4, max_new_tokens=8)
    answer = ask(client, n=2, best_of=4).json()
    assert [one["text"] for one in answer["choices"]] == [one.text for one in expected[:2]]
    assert [one["finish_reason"] for one in answer["choices"]] == [one.finish_reason for one in expected[:2]]
    usage = answer["usage"]
    assert usage["completion_tokens"] == sum(len(one.token_ids) for one in expected)
    assert usage["timings"]["prefill_seconds"] > 0 and usage["timings"]["decode_seconds"] > 0
    assert usage["energy_joules"]["central"] is None or usage["energy_joules"]["central"] > 0
    (row,) = workspace.ledger.requests()
    assert (row["status"], row["completion_tokens"]) == (200, usage["completion_tokens"])
    assert tiny.engine.scheduler.pool.num_used == 0


def test_several_prompts_ids_echo_and_length_penalty(client: TestClient, tiny: LanguageModel):
    prompts = [tiny.encode_prompt("Once upon a time"), tiny.encode_prompt("def")]
    answer = ask(client, prompt=prompts, n=3, length_penalty=0.0, echo=True).json()
    expected = [tiny.beam_search(one, beams=3, max_new_tokens=8, length_penalty=0.0) for one in prompts]
    texts = ["Once upon a time", "def"]
    wanted = [text + beam.text for text, beams in zip(texts, expected, strict=True) for beam in beams]
    assert [one["text"] for one in answer["choices"]] == wanted


def test_chat_and_streams(client: TestClient, tiny: LanguageModel):
    messages = [{"role": "user", "content": "Who?"}]
    asked = {"model": "tiny", "messages": messages, "max_tokens": 6, "n": 2, "use_beam_search": True}
    expected = [one.text for one in tiny.beam_search(messages, beams=2, max_new_tokens=6)]
    answer = client.post("/v1/chat/completions", json=asked).json()
    assert [one["message"]["content"] for one in answer["choices"]] == expected
    streamed = client.post("/v1/chat/completions", json={**asked, "stream": True}).text
    chunks = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    told = ["".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"][0]["index"] == i)
            for i in range(2)]  # fmt: skip
    assert told == expected and streamed.rstrip().endswith("data: [DONE]")


@pytest.mark.parametrize(
    ("more", "param"),
    [({"best_of": 65}, "best_of"), ({"length_penalty": 10.5}, "length_penalty"),
     ({"temperature": 0.5}, "temperature"), ({"top_p": 0.5}, "top_p"), ({"stop": "x"}, "stop"), ({"n": 65}, "n"),
     ({"logprobs": 1}, "logprobs"), ({"logit_bias": {"5": 1}}, "logit_bias"), ({"max_tokens": 0}, "max_tokens"),
     ({"guided_regex": "a+"}, "response_format"), ({"presence_penalty": 1}, "presence_penalty"),
     ({"inspect": {}}, "use_beam_search"), ({"use_beam_search": False, "length_penalty": 1}, "length_penalty"),
     ({"ignore_eos": True}, "ignore_eos")],
)  # fmt: skip
def test_what_does_not_go_with_beams_is_refused_by_name(client: TestClient, more: dict, param: str):
    answer = ask(client, **more)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    answer = ask(client, n=2, temperature=0, top_p=1, top_k=-1, stop=[])
    assert answer.status_code == 200


def test_time_and_memory_end(tiny: LanguageModel):
    model = LanguageModel(tiny.decoder, tiny.tokenizer, name="tiny", engine=EngineConfig(cache_tokens=128))
    with TestClient(build_app(model, config=ServeConfig(api_key="")), base_url="http://localhost") as client:
        late = ask(client, timeout_seconds=1e-6, n=2)
        assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
        many = ask(client, n=32, max_tokens=60)
        assert (many.status_code, many.json()["error"]["code"]) == (400, "no_memory")
        # Nine blocks of eight will not come free in a moment, though three times 42 are less than 128.
        assert len(tiny.encode_prompt(ASKED["prompt"])) == 9 and ask(client, n=3, max_tokens=33).status_code == 400
        assert ask(client, n=2).status_code == 200
    assert model.engine.scheduler.pool.num_used == 0


def test_what_was_computed_before_the_time_was_over_is_used(
    client: TestClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
):
    """Else whoever has a limit of tokens could have any number computed, by asking for too little time."""
    looked = iter([0.0] * 5)
    clock = SimpleNamespace(perf_counter=lambda: next(looked, float("inf")))
    monkeypatch.setattr(beams, "time", clock)
    assert ask(client, n=3, timeout_seconds=600, max_tokens=50).status_code == 504
    *_, line = (workspace.root / "audit.jsonl").read_text().splitlines()
    # It looks at the clock before the prompt and before each step.
    assert json.loads(line)["completion_tokens"] == 3 * 4


def test_an_end_token_can_be_passed_over(client: TestClient, tiny: LanguageModel):
    end = min(tiny.tokenizer.eos_ids)
    asked = {"model": "tiny", "prompt": "a", "max_tokens": 5, "logit_bias": {str(end): 100}, "temperature": 0}
    assert client.post("/v1/completions", json=asked).json()["usage"]["completion_tokens"] == 1
    answer = client.post("/v1/completions", json={**asked, "ignore_eos": True}).json()
    assert answer["usage"]["completion_tokens"] == 5 and answer["choices"][0]["finish_reason"] == "length"
    refused = client.post("/v1/completions", json={**asked, "ignore_eos": True, "guided_regex": "a"}).json()
    assert refused["error"]["param"] == "ignore_eos"
