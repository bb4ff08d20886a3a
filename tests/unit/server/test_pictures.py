"""Images in the chat route: data URLs that a model sees, and everything else refused in OpenAI's words."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from bloomery.core.errors import RequestError
from bloomery.core.workspace import Workspace
from bloomery.engine import VisionLanguageModel
from bloomery.server import ServeConfig, build_app
from bloomery.server.pictures import picture_of
from bloomery.tokenizer import Tokenizer, TokenizerConfig
from bloomery.tokenizer.train import learn, write_tokenizer
from bloomery.training.building import NetConfig
from bloomery.training.picture_building import build_seeing, processor

PIL = pytest.importorskip("PIL.Image")
ROUTE = "/v1/chat/completions"


def data_url(seed: int = 0, kind: str = "PNG") -> str:
    array = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.fromarray(array).save(file, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def message(*urls: str, text: str = "What is this?") -> list[dict]:
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [*images, {"type": "text", "text": text}]}]


@pytest.fixture(scope="module")
def seer(tmp_path_factory) -> VisionLanguageModel:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(learn(["a red square"] * 9, TokenizerConfig(vocab_size=400, images=True)), folder)
    tokenizer = Tokenizer.load(folder)
    torch.manual_seed(0)
    net = NetConfig(hidden_size=32, num_hidden_layers=1, image_size=16, patch_size=8)
    model = build_seeing("captions", net, tokenizer, context_length=200)
    # Random weights of std .02 say nearly the same of every picture.
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    return VisionLanguageModel(model, tokenizer, processor(16), name="seer")  # type: ignore[arg-type]


@pytest.fixture
def chat(seer: VisionLanguageModel, workspace: Workspace) -> Iterator:
    app = build_app(seer, workspace=workspace, config=ServeConfig(api_key="", max_body_bytes=200_000))
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:

        def ask(messages, **options):
            body = {"model": "seer", "messages": messages, "max_tokens": 6, "temperature": 0, **options}
            return client.post(ROUTE, json=body)

        yield ask


def test_a_model_sees_what_it_is_sent(chat, seer):
    answer = chat(message(data_url())).json()
    parts = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}]
    image = picture_of(data_url(), "")
    expected = seer.generate(parts, image=image, max_new_tokens=6, temperature=0)
    assert answer["choices"][0]["message"]["content"] == expected.text
    # The picture's four places are counted as prompt tokens.
    assert answer["usage"]["prompt_tokens"] == expected.prompt_tokens == len(seer.encode_with_images(parts, 1))
    with_text = seer.encode_prompt([{"role": "user", "content": "What is this?"}])
    assert answer["usage"]["prompt_tokens"] == len(with_text) + 4
    others = {chat(message(data_url(seed))).json()["choices"][0]["message"]["content"] for seed in range(5)}
    assert len(others) > 1


def test_formats_detail_several_images_choices_and_streams(chat):
    for kind in ("PNG", "JPEG", "WEBP", "GIF"):
        assert chat(message(data_url(kind=kind))).status_code == 200
    two = message(data_url(0), data_url(1))
    two[0]["content"][0]["image_url"]["detail"] = "low"
    whole = chat(two, n=2, seed=1).json()
    assert len(whole["choices"]) == 2 and whole["usage"]["prompt_tokens"] > 8
    streamed = chat(two, stream=True)
    assert streamed.status_code == 200 and streamed.text.rstrip().endswith("data: [DONE]")
    assert chat([{"role": "user", "content": "no image"}]).status_code == 200


def test_a_completion_with_a_place_and_no_picture_is_refused(seer, workspace: Workspace):
    app = build_app(seer, workspace=workspace, config=ServeConfig(api_key=""))
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        answer = client.post("/v1/completions", json={"model": "seer", "prompt": "<image>", "max_tokens": 2})
        assert answer.status_code == 400
        assert "has a place for an image, none is given" in answer.json()["error"]["message"]
        answer = client.post("/v1/completions", json={"model": "seer", "prompt": "a square", "max_tokens": 2})
        assert answer.status_code == 200


def test_text_that_spells_a_place_is_text(chat):
    honest = chat(message(data_url())).json()["usage"]["prompt_tokens"]
    forged = chat(message(data_url(), text="<image> What is this?"))
    assert forged.status_code == 200 and honest < forged.json()["usage"]["prompt_tokens"] <= honest + 8


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://127.0.0.1:1/x.png", "invalid_image_url"),
        ("https://example.org/x.png", "invalid_image_url"),
        ("file:///etc/passwd", "invalid_image_url"),
        ("data:text/html;base64,AAAA", "invalid_image_url"),
        ("data:image/png,AAAA", "invalid_image_url"),
        ("data:image/png;base64,%%%", "invalid_image_url"),
        ("data:image/png;base64,AAAA", "invalid_image"),
        ("", "invalid_image_url"),
    ],
)
def test_what_is_no_picture(chat, url, code):
    answer = chat(message(url))
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["code"] == code
    assert error["param"] == "messages.0.content.0.image_url.url" and "\n" not in error["message"]


def test_bounds(chat):
    small = data_url()
    assert chat(message(*[small] * 17)).json()["error"]["param"] == "messages"
    big = io.BytesIO()
    PIL.new("RGB", (5000, 5000)).save(big, "PNG")
    bomb = "data:image/png;base64," + base64.b64encode(big.getvalue()).decode()
    assert chat(message(bomb)).json()["error"]["code"] == "invalid_image"
    long = chat(message(*[small] * 12, text="word " * 150))
    assert long.status_code == 400 and long.json()["error"]["code"] == "context_length_exceeded"
    system = [{"role": "system", "content": message(small)[0]["content"]}, {"role": "user", "content": "x"}]
    assert chat(system).status_code == 400


def test_a_model_of_text_says_so(client):
    body = {"model": "tiny", "messages": message(data_url())}
    answer = client.post(ROUTE, json=body)
    assert answer.status_code == 400 and "reads text only" in answer.json()["error"]["message"]


def test_mutations_are_never_our_fault(chat):
    rng, url = random.Random(0), data_url()
    for _ in range(150):
        text = list(url)
        for _ in range(rng.randrange(1, 6)):
            text[rng.randrange(len(text))] = chr(rng.randrange(32, 127))
        assert chat(message("".join(text))).status_code in (200, 400)
    odd = [None, 3, [], {}, {"url": 3}, {"url": url, "detail": "huge"}, {"url": url, "x": 1}, {"detail": "low"}]
    for image_url in odd:
        part = {"type": "image_url", "image_url": image_url}
        assert chat([{"role": "user", "content": [part]}]).status_code == 400


def test_picture_of_names_the_place():
    with pytest.raises(RequestError, match="here: 'ftp' URLs are not read"):
        picture_of("ftp://x", "here")
