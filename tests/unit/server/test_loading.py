"""Models come and go at run time: only inside the workspace and allowed folders, only for keys with the right."""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from bloomery.core.errors import ConfigError, RequestError
from bloomery.core.workspace import Workspace
from bloomery.engine import LanguageModel, import_model, load_language_model
from bloomery.server import ServeConfig, build_app
from bloomery.server.keys import add_key
from bloomery.server.loading import find_loadable, given_draft
from bloomery.server.shelf import Shelf

LOAD = "/v1/models/load"


@pytest.fixture
def allowed(tmp_path: Path, tiny_folder: Path, minilm_folder: Path) -> Path:
    """A folder of models: org/second, enc, broken, and two links that lead out."""
    root = tmp_path / "allowed"
    shutil.copytree(tiny_folder, root / "org" / "second")
    (root / "enc").mkdir()
    for item in minilm_folder.iterdir():
        (root / "enc" / item.name).symlink_to(item)
    (root / "broken").mkdir()
    (root / "broken" / "config.json").write_text('{"model_type": "qwen3"}')
    (root / "out").symlink_to(tiny_folder)
    shutil.copytree(tiny_folder, tmp_path / "secret")
    (root / "up").symlink_to(tmp_path)
    return root


@pytest.fixture
def server(tiny: LanguageModel, workspace: Workspace, tmp_path: Path, allowed: Path) -> Iterator[TestClient]:
    keys = tmp_path / "keys.toml"
    boss, guest = add_key(keys, "boss", rights=("admin",)), add_key(keys, "guest")
    config = ServeConfig(api_key="", keys=str(keys), model_folders=(str(allowed),), max_models=3)
    app = build_app(tiny, workspace=workspace, config=config)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        client.headers["authorization"] = f"Bearer {boss}"
        client.guest = {"authorization": f"Bearer {guest}"}  # type: ignore[attr-defined]
        yield client


def names(client: TestClient) -> list[str]:
    return [model["id"] for model in client.get("/v1/models").json()["data"]]


def test_a_folder_is_loaded_asked_and_unloaded(server: TestClient, workspace: Workspace):
    answer = server.post(LOAD, json={"model": "org/second"})
    assert answer.status_code == 200 and answer.json()["id"] == "second", answer.text
    body = {"model": "second", "prompt": "Once", "temperature": 0, "max_tokens": 4}
    same = [
        server.post("/v1/completions", json=body | {"model": m}).json()["choices"][0]["text"] for m in names(server)
    ]
    assert names(server) == ["tiny", "second"] and same[0] == same[1]
    assert server.post(LOAD, json={"model": "enc"}).json()["kind"] == "embedding"
    assert server.post("/v1/embeddings", json={"model": "enc", "input": "x"}).status_code == 200
    full = server.post(LOAD, json={"model": "broken"})
    assert full.status_code == 409 and full.json()["error"]["code"] == "too_many_models"
    gone = server.delete("/v1/models/second")
    assert gone.json() == {"id": "second", "object": "model", "deleted": True}
    assert server.post("/v1/completions", json=body).status_code == 404 and names(server) == ["tiny", "enc"]
    assert server.delete("/v1/models/second").status_code == 404


def test_an_artifact_of_the_workspace(server: TestClient, workspace: Workspace, tiny_folder: Path):
    artifact = import_model(tiny_folder, workspace=workspace)
    answer = server.post(LOAD, json={"model": artifact.name})
    assert answer.status_code == 200 and answer.json()["id"] == artifact.name, answer.text
    again = server.post(LOAD, json={"model": artifact.id})
    assert again.status_code == 409 and again.json()["error"]["code"] == "model_exists"


def test_only_for_keys_with_the_right(server: TestClient, tiny: LanguageModel, workspace: Workspace):
    guest = server.guest  # type: ignore[attr-defined]
    for answer in (
        server.post(LOAD, json={"model": "org/second"}, headers=guest),
        server.delete("/v1/models/tiny", headers=guest),
        server.delete("/v1/models/none", headers=guest),
    ):
        assert answer.status_code == 403 and answer.json()["error"]["code"] == "permission_denied"
    assert names(server) == ["tiny"]
    with TestClient(build_app(tiny, config=ServeConfig(api_key="")), base_url="http://localhost") as client:
        assert client.delete("/v1/models/tiny").status_code == 403  # without keys nobody has it


NAMES = [
    "", ".", "..", "../secret", "org/../../secret", "/etc", "~", "~root", "org//second", "org/second/", "up/secret",
    "out",
    "org\\second", "org/second\x00", "-x", ".hidden", "a" * 300, "a/b/c/d/e", "%2e%2e/secret", "file:///etc", "org",
    "hf-internal/tiny", "öfen", "\ud800", "second",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leads_out(server: TestClient, tmp_path: Path, name: str, monkeypatch):
    monkeypatch.chdir(tmp_path)  # "secret" is a model in the working directory
    data = json.dumps({"model": name}).encode()
    answer = server.post(LOAD, content=data, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["param"] == "model" and names(server) == ["tiny"]


def test_a_name_in_the_working_directory_is_nothing(server: TestClient, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert server.post(LOAD, json={"model": "secret"}).status_code == 404


def test_without_a_workspace_or_folders_there_is_nothing():
    with pytest.raises(RequestError) as caught:
        find_loadable("tiny", None, [])
    assert caught.value.status == 404


def test_a_broken_model_is_an_error_and_leaves_nothing(server: TestClient):
    answer = server.post(LOAD, json={"model": "broken"})
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "model_unusable"
    assert names(server) == ["tiny"]
    assert server.post(LOAD, json={"model": "org/second", "path": "/x"}).status_code == 400


def test_running_requests_finish_first(server: TestClient, tiny: LanguageModel, monkeypatch):
    run_all, started, go_on = tiny.engine.run_all, threading.Event(), threading.Event()

    def slow(*args, **options):
        started.set()
        assert go_on.wait(20)
        return run_all(*args, **options)

    monkeypatch.setattr(tiny.engine, "run_all", slow)
    answers: dict = {}

    def ask(name: str, method: str, path: str, **options) -> threading.Thread:
        thread = threading.Thread(target=lambda: answers.update({name: server.request(method, path, **options)}))
        thread.start()
        return thread

    asking = ask("completion", "POST", "/v1/completions", json={"model": "tiny", "prompt": "x", "max_tokens": 3})
    assert started.wait(20)
    leaving = ask("deletion", "DELETE", "/v1/models/tiny")
    while names(server):
        pass
    assert leaving.is_alive() and "deletion" not in answers
    go_on.set()
    for thread in (asking, leaving):
        thread.join(20)
    assert answers["completion"].status_code == answers["deletion"].status_code == 200
    assert answers["completion"].json()["usage"]["completion_tokens"] >= 1


def test_a_deletion_that_waits_too_long_is_a_conflict_and_the_model_stays(server: TestClient, tiny, monkeypatch):
    inner: list = []
    run_all = tiny.engine.run_all
    service = server.app.state.service  # type: ignore[attr-defined]
    service.config = dataclasses.replace(service.config, unload_seconds=0.1)

    def asking(*args, **options):
        inner.append(server.delete("/v1/models/tiny"))
        return run_all(*args, **options)

    monkeypatch.setattr(tiny.engine, "run_all", asking)
    answer = server.post("/v1/completions", json={"model": "tiny", "prompt": "x", "max_tokens": 1})
    assert answer.status_code == 200 and inner[0].status_code == 409
    assert inner[0].json()["error"]["code"] == "model_in_use" and names(server) == ["tiny"]
    assert server.delete("/v1/models/tiny").json()["deleted"] is True and names(server) == []


def test_a_draft_model_of_the_configuration_guesses_for_the_first_language_model(
    tiny_folder: Path, minilm_folder: Path, minilm, workspace: Workspace
):
    config = ServeConfig(api_key="", draft_model=str(tiny_folder))
    shelf = Shelf([minilm, load_language_model(tiny_folder, device="cpu")])
    given_draft(shelf, workspace, config)
    with TestClient(build_app(shelf, config=config), base_url="http://localhost") as client:
        body = {"model": tiny_folder.name, "prompt": "Once upon", "max_tokens": 40, "temperature": 0}
        assert client.post("/v1/completions", json=body | {"ignore_eos": True}).status_code == 200
        lines = client.get("/metrics").text.splitlines()
        (accepted,) = [line for line in lines if line.startswith("bloomery:spec_decode_num_accepted_tokens_total{")]
        assert float(accepted.split()[-1]) > 20
    for one, reference in (([minilm], tiny_folder), ([load_language_model(tiny_folder, device="cpu")], minilm_folder)):
        with pytest.raises(ConfigError):
            given_draft(Shelf(one), workspace, dataclasses.replace(config, draft_model=str(reference)))
    with pytest.raises(ConfigError, match="n-grams"):
        ServeConfig(api_key="", draft_model="x", drafts="ngram")
