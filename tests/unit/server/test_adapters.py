"""LoRA adapters as models of their own ids, as vLLM has them: from allowed folders only, by keys with the right."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from bloomery.core.errors import ConfigError
from bloomery.core.workspace import Workspace
from bloomery.engine import LanguageModel, load
from bloomery.server import ServeConfig, build_app
from bloomery.server.adapters import given_adapters
from bloomery.server.keys import add_key
from bloomery.server.shelf import Shelf

make_tiny_adapter = runpy.run_path(str(Path(__file__).parents[2] / "tiny_adapter.py"))["make_tiny_adapter"]
LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"


@pytest.fixture
def own(tiny_folder: Path) -> LanguageModel:
    """A model of this test's own, for adapters stay with it."""
    model = load(tiny_folder, device="cpu")
    assert isinstance(model, LanguageModel)
    return model


@pytest.fixture
def allowed(tmp_path: Path, tiny_folder: Path) -> Path:
    root = tmp_path / "allowed"
    make_tiny_adapter(root / "org" / "red", tiny_folder, seed=1)
    make_tiny_adapter(root / "blue", tiny_folder, seed=2)
    make_tiny_adapter(root / "broken", tiny_folder, use_dora=True)
    make_tiny_adapter(tmp_path / "secret", tiny_folder)
    (root / "up").symlink_to(tmp_path)
    return root


@pytest.fixture
def server(own: LanguageModel, workspace: Workspace, tmp_path: Path, allowed: Path) -> Iterator[TestClient]:
    keys = tmp_path / "keys.toml"
    boss, guest = add_key(keys, "boss", rights=("admin",)), add_key(keys, "guest")
    config = ServeConfig(api_key="", keys=str(keys), model_folders=(str(allowed),), max_adapters=2)
    app = build_app(own, workspace=workspace, config=config)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        client.headers["authorization"] = f"Bearer {boss}"
        client.guest = {"authorization": f"Bearer {guest}"}  # type: ignore[attr-defined]
        yield client


def written(server: TestClient, model: str) -> str:
    body = {"model": model, "prompt": "Once upon", "temperature": 0, "max_tokens": 12}
    answer = server.post("/v1/completions", json=body)
    assert answer.status_code == 200 and answer.json()["model"] == model, answer.text
    return answer.json()["choices"][0]["text"]


def test_loaded_asked_and_unloaded(server: TestClient, own: LanguageModel):
    plain = written(server, own.name)
    answer = server.post(LOAD, json={"lora_name": "mine/red", "lora_path": "org/red"})
    assert (answer.status_code, answer.text) == (200, "Success: LoRA adapter 'mine/red' added successfully.")
    listed = {model["id"]: model for model in server.get("/v1/models").json()["data"]}
    assert list(listed) == [own.name, "mine/red"]
    assert listed["mine/red"]["parent"] == own.name and "parent" not in listed[own.name]
    assert server.get("/v1/models/mine/red").json()["parent"] == own.name
    expected = own.generate("Once upon", adapter="mine/red", temperature=0.0, max_new_tokens=12).text
    assert written(server, "mine/red") == expected != plain == written(server, own.name)
    chat = {"model": "mine/red", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
    assert server.post("/v1/chat/completions", json=chat).status_code == 200
    assert f'model_name="{own.name}"' in server.get("/metrics").text
    answer = server.post(UNLOAD, json={"lora_name": "mine/red"})
    assert (answer.status_code, answer.text) == (200, "Success: LoRA adapter 'mine/red' removed successfully.")
    assert [model["id"] for model in server.get("/v1/models").json()["data"]] == [own.name] and not own.adapters
    asked = server.post("/v1/completions", json={"model": "mine/red", "prompt": "a"})
    assert asked.status_code == 404 and asked.json()["error"]["code"] == "model_not_found"


def test_a_full_path_inside_an_allowed_folder(server: TestClient, allowed: Path):
    assert server.post(LOAD, json={"lora_name": "a", "lora_path": str(allowed / "blue")}).status_code == 200
    assert server.delete("/v1/models/a").status_code == 200


@pytest.mark.parametrize(
    "path", ["../secret", "up/secret", "/etc", "blue/../../secret", "", "~/x", "blue\x00", "C:\\x", "nowhere", "org"]
)
def test_no_path_leads_out(server: TestClient, path: str, tmp_path: Path):
    for one in (path, f"{tmp_path}/allowed/{path}", str(tmp_path / "secret")):
        answer = server.post(LOAD, json={"lora_name": "a", "lora_path": one})
        assert answer.status_code in (400, 404) and "\n" not in answer.json()["error"]["message"], answer.text
        assert "Success" not in answer.text


def test_mistakes(server: TestClient, own: LanguageModel):
    def error(route: str, **body) -> tuple[int, str]:
        answer = server.post(route, json=body)
        return answer.status_code, answer.json()["error"]["code"]

    for name in ("../a", "", "a b", "a/b/c/d/e"):
        assert error(LOAD, lora_name=name, lora_path="blue") == (400, "invalid_value")
    assert error(LOAD, lora_name=own.name, lora_path="blue") == (409, "model_exists")
    assert error(LOAD, lora_name="a", lora_path="broken") == (400, "model_unusable")
    assert error(LOAD, lora_name="a", lora_path="blue", model="nobody") == (404, "model_not_found")
    assert error(LOAD, lora_name="a", lora_path="blue", load_inplace=True) == (400, "unsupported_parameter")
    assert error(LOAD, lora_name="a", lora_path="blue", x=1) == (400, "unknown_parameter")
    assert error(UNLOAD, lora_name=own.name) == (404, "model_not_found")
    assert not own.adapters
    for name in ("a", "b"):
        assert server.post(LOAD, json={"lora_name": name, "lora_path": "blue"}).status_code == 200
    assert error(LOAD, lora_name="c", lora_path="blue") == (409, "too_many_adapters")
    assert error(LOAD, lora_name="a", lora_path="blue") == (409, "model_exists")
    assert server.delete(f"/v1/models/{own.name}").status_code == 200  # and its adapters with it
    assert server.get("/v1/models").json()["data"] == []


def test_only_keys_with_the_right(server: TestClient):
    for route, body in ((LOAD, {"lora_name": "a", "lora_path": "blue"}), (UNLOAD, {"lora_name": "a"})):
        assert server.post(route, json=body, headers=server.guest).status_code == 403  # type: ignore[attr-defined]
        assert server.post(route, json=body, headers={"authorization": "Bearer no"}).status_code == 401


def test_given_at_the_start(own: LanguageModel, allowed: Path):
    shelf = Shelf([own])
    given_adapters(shelf, [f"red={allowed / 'org' / 'red'}"])
    assert [model["id"] for model in shelf.describe()] == [own.name, "red"]
    for text in ("red", "=x", "a=", "../a=x", f"red={allowed / 'blue'}", f"{own.name}={allowed / 'blue'}"):
        with pytest.raises(ConfigError):
            given_adapters(shelf, [text])
