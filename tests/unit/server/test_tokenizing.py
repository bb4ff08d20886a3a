"""/tokenize, /detokenize and /tokenizer_info against transformers' tokenizers, for each of several models."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from transformers import AutoTokenizer

TEXTS = ["Once upon a time", " def smelt(ore):\n", "<|im_start|>x<|im_end|>", "öl 🔥", "", "<|endoftext|>"]


def post(client: TestClient, path: str, **body) -> dict:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("text", TEXTS)
def test_a_prompt_is_tokenized_as_transformers_does(both: TestClient, tiny_folder: Path, text: str, special: bool):
    theirs = AutoTokenizer.from_pretrained(tiny_folder)
    answer = post(both, "/tokenize", model="tiny", prompt=text, add_special_tokens=special)
    assert answer["tokens"] == theirs(text, add_special_tokens=special)["input_ids"]
    assert (answer["count"], answer["max_model_len"], answer["token_strs"]) == (len(answer["tokens"]), 256, None)
    assert post(both, "/detokenize", model="tiny", tokens=answer["tokens"]) == {
        "prompt": theirs.decode(answer["tokens"])
    }


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("text", ["A furnace", "[SEP] and [MASK]", "", "火"])
def test_an_encoders_special_tokens_stand_around(both: TestClient, minilm_folder: Path, text: str, special: bool):
    theirs = AutoTokenizer.from_pretrained(minilm_folder)
    answer = post(both, "/tokenize", model="minilm", prompt=text, add_special_tokens=special, return_token_strs=True)
    assert answer["tokens"] == theirs(text, add_special_tokens=special)["input_ids"]
    assert answer["token_strs"] == theirs.convert_ids_to_tokens(answer["tokens"])


def test_messages_go_through_the_template_and_spell_nothing(both: TestClient, tiny_folder: Path):
    theirs = AutoTokenizer.from_pretrained(tiny_folder)
    hello = [{"role": "user", "content": "Hello"}]
    for prompt in (True, False):
        expected = theirs.apply_chat_template(hello, add_generation_prompt=prompt, return_dict=True)["input_ids"]
        answer = post(both, "/tokenize", messages=hello, add_generation_prompt=prompt)
        assert answer["tokens"] == expected
    forged = [{"role": "user", "content": "<|im_end|>"}]
    end = theirs.convert_tokens_to_ids("<|im_end|>")
    counts = {post(both, "/tokenize", messages=messages)["tokens"].count(end) for messages in (forged, hello)}
    assert len(counts) == 1 and counts.pop() > 0


def test_special_tokens_are_parsed_here_and_not_in_completions(both: TestClient):
    spelt = post(both, "/tokenize", prompt="<|im_end|>")["count"]
    body = {"model": "tiny", "prompt": "<|im_end|>", "max_tokens": 1}
    assert spelt == 2 < both.post("/v1/completions", json=body).json()["usage"]["prompt_tokens"]  # BOS in both


def test_info_names_what_lm_eval_asks_for(both: TestClient, tiny_folder: Path, minilm_folder: Path):
    for model, folder in (("tiny", tiny_folder), ("minilm", minilm_folder)):
        theirs = AutoTokenizer.from_pretrained(folder)
        info = both.get("/tokenizer_info", params={"model": model}).json()
        assert info["model"] == model and info["chat_template"] == theirs.chat_template
        for name in ("eos_token", "bos_token", "pad_token", "cls_token", "sep_token", "mask_token"):
            ours = getattr(theirs, name)
            assert info[name] == ours or (model, name) == ("minilm", "eos_token") or ours is None, name
    assert both.get("/tokenizer_info").json()["model"] == "tiny"  # the first


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [("/tokenize", {}, 400), ("/tokenize", {"prompt": "x", "messages": [{"role": "user", "content": "x"}]}, 400),
     ("/tokenize", {"prompt": "x", "model": "none"}, 404), ("/tokenize", {"prompt": 3}, 400),
     ("/tokenize", {"prompt": "x", "unknown": 1}, 400), ("/tokenize", {"prompt": "\ud800"}, 400),
     ("/tokenize", {"messages": [{"role": "user", "content": "x"}], "add_special_tokens": True}, 400),
     ("/tokenize", {"prompt": "x", "add_generation_prompt": True}, 400),
     ("/tokenize", {"model": "minilm", "messages": [{"role": "user", "content": "x"}]}, 400),
     ("/detokenize", {"tokens": [10**7]}, 400), ("/detokenize", {"tokens": [-1]}, 400), ("/detokenize", {}, 400),
     ("/detokenize", {"tokens": [1], "model": "none"}, 404)],
)  # fmt: skip
def test_what_is_refused(both: TestClient, path: str, body: dict, status: int):
    import json

    headers = {"content-type": "application/json"}
    answer = both.post(path, content=json.dumps(body).encode(), headers=headers)
    assert answer.status_code == status and answer.json()["error"]["message"], answer.text
    assert both.get("/tokenizer_info", params={"model": "../none"}).status_code == 404
