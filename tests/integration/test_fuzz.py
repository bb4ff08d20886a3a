"""Strangers at the server: Schemathesis over its own OpenAPI document, every route with every wrong key, bodies of
100 MB, deep JSON, paths that lead out. Nothing is a 5xx, and every refusal has the one form.
"""

from __future__ import annotations

import copy
import json
import random
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from bloomery.engine import LanguageModel, load
from bloomery.server import ServeConfig, build_app
from bloomery.server.keys import add_key

make_tiny_model = runpy.run_path(str(Path(__file__).parents[1] / "tiny_model.py"))["make_tiny_model"]
make_tiny_adapter = runpy.run_path(str(Path(__file__).parents[1] / "tiny_adapter.py"))["make_tiny_adapter"]
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load(make_tiny_model(tmp_path_factory.mktemp("models") / "tiny"), device="cpu")


@pytest.fixture(scope="module")
def client(tiny: LanguageModel) -> Iterator[TestClient]:
    """Open, so that what is sent comes as far as it can."""
    with TestClient(build_app(tiny, config=ServeConfig(api_key="")), base_url="http://localhost") as client:
        yield client


@pytest.fixture(scope="module")
def locked(tiny: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, str]]:
    keys = tmp_path_factory.mktemp("keys") / "keys.toml"
    key = add_key(keys, "alice", rights=("admin", "inspect"))
    app = build_app(tiny, config=ServeConfig(api_key="", keys=str(keys)))
    with TestClient(app, base_url="http://localhost") as client:
        yield client, key


def assert_sound(answer) -> None:
    """No 5xx, and errors in the one form."""
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert set(answer.json()) == {"error"} and set(answer.json()["error"]) == {"message", "type", "param", "code"}


# Schemathesis


def ask_as(client: TestClient, case, fields: set[str]) -> int:
    """The status of a case of Schemathesis: its tokens kept few, mostly of the model that there is, and mostly without
    the parameters that the document does not name, which it may invent and the server refuses."""
    sent = case.as_transport_kwargs(base_url="http://localhost")
    sent = {name: sent[name] for name in ("method", "url", "headers", "params", "json", "data") if sent.get(name)}
    if "data" in sent:
        sent["content"] = sent.pop("data")
    body = sent.get("json")
    if isinstance(body, dict):
        rng = random.Random(len(str(body)))
        if rng.random() < 0.8:
            body = {name: value for name, value in body.items() if name in fields} | {"model": "tiny"}
        for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
            if name in fields and type(body.get(name, 4)) is int:
                body[name] = min(body.get(name, 4), 4)
        if type(body.get("n")) is int:
            body["n"] = min(body["n"], 3)
        if type(body.get("timeout_seconds")) in (int, float) and 0 < body["timeout_seconds"] <= 86_400:
            body["timeout_seconds"] = 86_400  # else it may be a 504, as asked for
        sent["json"] = body
    answer = client.request(**sent)
    assert_sound(answer)
    return answer.status_code


def body_fields(document: dict, path: str, method: str) -> set[str]:
    """The properties that the document names for a body."""
    content = document["paths"][path][method.lower()].get("requestBody", {}).get("content", {})
    reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
    return set(document["components"]["schemas"][reference.rpartition("/")[2]]["properties"]) if reference else set()


@pytest.mark.slow
@pytest.mark.parametrize("valid", [True, False])
def test_schemathesis_finds_no_server_error(tiny: LanguageModel, valid: bool):
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis import GenerationMode

    mode = GenerationMode.POSITIVE if valid else GenerationMode.NEGATIVE
    seen: dict[str, set[int]] = {}
    with TestClient(build_app(tiny, config=ServeConfig(api_key="")), base_url="http://localhost") as client:
        document = client.get("/openapi.json").json()
        schema = schemathesis.openapi.from_dict(document)
        operations = [result.ok() for result in schema.get_all_operations()]
        assert len(operations) >= 16
        for operation in operations:
            if not valid and operation.method.upper() != "POST":
                continue  # nothing can be wrong

            @settings(
                max_examples=30, deadline=None, database=None, phases=[Phase.generate], derandomize=True,
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case) -> None:
                fields = body_fields(document, case.operation.path, case.operation.method)
                seen.setdefault(case.operation.path, set()).add(ask_as(client, case, fields))

            check()
    # It comes as far as the engine, and what is wrong is refused.
    reached = {path for path, statuses in seen.items() if 200 in statuses}
    # Not every one of these in every run: what is drawn depends on the constants of the modules that are loaded.
    inside = {"/v1/completions", "/v1/responses", "/tokenize", "/detokenize"}
    assert not valid or len(inside & reached) >= 2, seen
    assert valid or all(max(statuses) >= 400 for statuses in seen.values()), seen


# Keys


def wrong_headers(key: str) -> list[list[tuple[str, str]]]:
    """Every form of no key and of a wrong one."""
    values = [
        "", " ", "Bearer", "Bearer ", "Bearer  ", "Bearer wrong", "Bearer null", "Bearer undefined", "Bearer *", key,
        f"Bearer {key[:-1]}", f"Bearer {key}x", f"Basic {key}", f"bearer{key}", f"Bearer: {key}", f"Digest {key}",
        f"Bearer {key} {key}", f"Bearer {key.upper()}", f'Bearer "{key}"', f"Token {key}", f"Bearer\t{key}",
        f"Bearer {key},Bearer {key}", f"Bearer {key[::-1]}", "Bearer " + "a" * 8_000,
    ]  # fmt: skip
    forms = [[], *([("authorization", value)] for value in values)]
    right = ("authorization", f"Bearer {key}")
    forms += [[right, right], [right, ("authorization", "Bearer wrong")], [("authorization", "Bearer wrong"), right]]
    forms += [[(name, value)] for name in ("x-api-key", "api-key", "proxy-authorization", "cookie", "x-authorization")
              for value in (key, f"Bearer {key}")]  # fmt: skip
    return forms


def test_every_route_refuses_every_form_of_a_wrong_key(locked: tuple[TestClient, str]):
    client, key = locked
    right = {"authorization": f"Bearer {key}"}
    document = client.get("/openapi.json", headers=right).json()
    routes = [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]
    routes = [(method, path.replace("{name}", "tiny")) for method, path in routes if path != "/health"]
    routes += [("GET", "/openapi.json"), ("GET", "/nowhere"), ("OPTIONS", "/v1/models"), ("HEAD", "/v1/models"),
               ("GET", "/health/"), ("GET", "//health"), ("GET", "/health/../v1/models"), ("GET", "/HEALTH"),
               ("GET", "/%68ealth/x"), ("TRACE", "/v1/models"), ("GET", f"/v1/models?api_key={key}")]  # fmt: skip
    assert len(routes) >= 26
    for method, path in routes:
        for form in wrong_headers(key):
            answer = client.request(method, path, headers=form)
            assert answer.status_code == 401, (method, path, form)
            assert method == "HEAD" or answer.json()["error"]["code"] == "invalid_api_key"
            assert "www-authenticate" in answer.headers
        assert client.request(method, path, headers=right).status_code != 401
    assert client.get("/v1/models").status_code == 401 and client.get("/health").status_code == 200


# Size and depth


def test_a_hundred_megabytes_are_refused_declared_or_not(client: TestClient):
    size = 100 * 1024 * 1024
    chunk = b"x" * (1 << 20)
    read = 0

    def pieces() -> Iterator[bytes]:
        nonlocal read
        yield b'{"model": "tiny", "prompt": "'
        for _ in range(100):
            read += len(chunk)
            yield chunk

    for path in ("/v1/completions", "/v1/embeddings", "/tokenize", "/v1/models/load", "/nowhere"):
        declared = client.post(path, content=b"", headers=JSON | {"content-length": str(size)})
        assert declared.status_code == 413 and declared.json()["error"]["code"] == "body_too_large"
    assert client.post("/v1/completions", content=pieces(), headers=JSON).status_code == 413


DEEP = [b"[" * 100_000, b'{"a":' * 100_000, b'{"model":"tiny","prompt":' + b"[" * 33 + b"]" * 33 + b"}",
        b'{"model":"tiny","messages":' + b'[{"content":' * 40 + b"1" + b"}]" * 40 + b"}"]  # fmt: skip


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/v1/responses", "/tokenize"])
def test_deep_json_is_refused(client: TestClient, path: str):
    for data in DEEP:
        answer = client.post(path, content=data, headers=JSON)
        assert answer.status_code == 400 and answer.json()["error"]["code"] == "json_too_deep"


def test_random_bytes_headers_and_cut_bodies(client: TestClient):
    rng = random.Random(0)
    good = json.dumps({"model": "tiny", "prompt": "Once", "max_tokens": 2, "stop": ["é"], "temperature": 0}).encode()
    for _ in range(400):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 6)):
            kind, place = rng.randrange(3), rng.randrange(len(data))
            if kind == 0:
                data[place] = rng.randrange(256)
            elif kind == 1:
                del data[place : place + rng.randrange(8)]
            else:
                data[place:place] = rng.choice([b"\\u0000", b"\\ud800", b"1e999", b"NaN", b"-", b"\x00", b"null", b'"'])
            data = data or bytearray(b"{")
        path = rng.choice(["/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/tokenize"])
        assert_sound(client.post(path, content=bytes(data), headers=JSON))
    odd = [("accept", "\xff"), ("x" * 200, "y" * 5_000), ("content-encoding", "gzip"), ("range", "bytes=0-"),
           ("transfer-encoding", "identity"), ("expect", "x"), ("x-forwarded-host", "evil")]  # fmt: skip
    for name, value in odd:
        headers = [(name.encode(), value.encode("latin-1")), (b"content-type", b"application/json")]
        assert_sound(client.post("/v1/completions", content=good, headers=headers))


# Bodies of which a part is something else

SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 3}}, "required": ["city"]}
FUNCTION = {"name": "weather", "description": "of a city", "parameters": SCHEMA}
TOLD = [{"role": "user", "content": "Ulm?"}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}}
FORM = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}
GOOD: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": TOLD, "tools": [{"type": "function", "function": FUNCTION}],
                              "tool_choice": "auto", "parallel_tool_calls": False, "max_tokens": 2}),
    ("/v1/chat/completions", {"messages": [*TOLD, {"role": "assistant", "content": None, "tool_calls": [CALL]},
                                           {"role": "tool", "tool_call_id": "call_1", "content": "dry"}],
                              "max_completion_tokens": 2, "stream": True, "stream_options": {"include_usage": True}}),
    ("/v1/chat/completions", {"messages": TOLD, "response_format": FORM, "max_tokens": 2, "logprobs": True}),
    ("/v1/completions", {"prompt": "x", "max_tokens": 2, "structured_outputs": {"json": SCHEMA}}),
    ("/v1/completions", {"prompt": ["x", "y"], "max_tokens": 2, "guided_choice": ["yes", "no"], "best_of": 2}),
    ("/v1/completions", {"prompt": "x", "max_tokens": 2, "guided_grammar": 'start: "a" | "b"', "stream": True}),
    ("/v1/responses", {"input": [*TOLD, {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"},
                                 {"type": "function_call_output", "call_id": "c", "output": "dry"}],
                       "tools": [{"type": "function", **FUNCTION, "strict": True}], "tool_choice": "required",
                       "max_output_tokens": 2}),
    ("/v1/responses", {"input": "Ulm?", "text": {"format": {"type": "json_schema", "name": "p", "schema": SCHEMA}},
                       "instructions": "short", "max_output_tokens": 2, "stream": True, "metadata": {"a": "b"}}),
    ("/v1/load_lora_adapter", {"lora_name": "red", "lora_path": "red", "load_inplace": False}),
    ("/v1/unload_lora_adapter", {"lora_name": "red", "lora_int_id": 1}),
    ("/v1/models/load", {"model": "nowhere"}),
]  # fmt: skip
LOOP = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
ODD = [None, True, -1, 0, 1.5, 2**63, 1e308, "", "\0", "\ud800", "x" * 300, "../..", "function", "json_object", [], {},
       [[]], [None], {"": 0}, {"$ref": "#"}, LOOP, {"enum": []}, {"not": {}}, {"minLength": 2**40},
       {"pattern": "(a+)+$"}, {"pattern": "("}, {"type": ["string", "nothing"]}, {"allOf": [{}, False]}]  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """(where it is, key or index) of all parts."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [place for key in keys for place in ((value, key), *places(value[key]))]


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Path]]:
    """For keys with rights, with room for tools in its prompts, and an adapter "red" in the folder beside."""
    home = tmp_path_factory.mktemp("roomy")
    model = load(make_tiny_model(home / "tiny", context=1024), device="cpu")
    make_tiny_adapter(home / "allowed" / "red", home / "tiny")
    key = add_key(home / "keys.toml", "alice", rights=("admin",))
    config = ServeConfig(api_key="", keys=str(home / "keys.toml"), model_folders=(str(home / "allowed"),))
    with TestClient(build_app(model, config=config), base_url="http://localhost") as client:  # type: ignore[arg-type]
        client.headers["authorization"] = f"Bearer {key}"
        yield client, home / "allowed"


def changed(good: Any, rng: random.Random) -> Any:
    """A copy of which one part, or a few, is something else or missing."""
    body = copy.deepcopy(good)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        found = places(body)
        if not found:
            break
        where, key = rng.choice(found)
        if rng.random() < 0.15:
            del where[key]
        else:
            where[key] = copy.deepcopy(rng.choice(ODD))
    return body


@pytest.mark.parametrize("number", range(len(GOOD)))
def test_parts_of_bodies_that_are_something_else(roomy: tuple[TestClient, Path], number: int):
    client, (path, good), rng = roomy[0], GOOD[number], random.Random(number)
    named = {} if "lora_name" in good else {"model": "tiny"}
    assert client.post(path, json=named | good).status_code == (404 if "nowhere" in good.values() else 200)
    for _ in range(40):
        body = changed(good, rng)
        for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
            if name in good and body.get(name) not in (-1, 0):
                body[name] = 2  # what is drawn here should not be written to its end
        answer = client.post(path, content=json.dumps(named | body), headers=JSON)
        assert_sound(answer)
        assert '"internal_error"' not in answer.text, (answer.text, body)


def test_adapters_of_which_a_part_is_something_else(roomy: tuple[TestClient, Path]):
    client, allowed = roomy
    rng, seen = random.Random(0), set()
    good = json.loads((allowed / "red" / "adapter_config.json").read_text())
    weights = (allowed / "red" / "adapter_model.safetensors").read_bytes()
    for number in range(60):
        odd = allowed / f"odd{number}"
        odd.mkdir()
        (odd / "adapter_config.json").write_text(json.dumps(changed(good, rng) if number % 2 else good))
        cut = bytearray(weights)
        if number % 2 == 0:
            for _ in range(rng.randrange(1, 4)):
                cut[rng.randrange(min(len(cut), 800))] = rng.randrange(256)
            del cut[len(cut) - rng.choice([0, 0, 1, 400]) :]
        (odd / "adapter_model.safetensors").write_bytes(cut)
        answer = client.post("/v1/load_lora_adapter", json={"lora_name": odd.name, "lora_path": odd.name})
        seen.add(answer.status_code)
        assert answer.status_code == 200 or set(answer.json()["error"]) == {"message", "type", "param", "code"}
        assert answer.status_code < 500, (answer.text, (odd / "adapter_config.json").read_text())
        if answer.status_code == 200:
            body = {"model": odd.name, "prompt": "x", "max_tokens": 2}
            assert_sound(client.post("/v1/completions", json=body))
            assert client.post("/v1/unload_lora_adapter", json={"lora_name": odd.name}).status_code == 200
    assert 400 in seen and seen <= {200, 400}


NAMES = ["../../etc/passwd", "..", "tiny/../tiny", "/etc/passwd", "tiny\x00", "%2e%2e", "\\..\\", "tiny/", "", " tiny",
         "file:///etc/passwd", "http://127.0.0.1/x", "a" * 100_000, "{{7*7}}", "${jndi:x}", "\u202etiny"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_of_models_are_names_and_no_paths(client: TestClient, name: str):
    bodies = {
        "/v1/completions": {"prompt": "x"},
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}]},
        "/v1/responses": {"input": "x"},
        "/v1/embeddings": {"input": "x"},
        "/tokenize": {"prompt": "x"},
        "/detokenize": {"tokens": [5]},
    }
    for path, body in bodies.items():
        answer = client.post(path, json={"model": name, **body})
        assert answer.status_code == 404 and len(answer.text) < 2_000
        assert "root:" not in answer.text and "49" not in answer.json()["error"]["message"].replace(name, "")
    assert client.get("/tokenizer_info", params={"model": name[:2_000]}).status_code == 404


def test_templates_in_messages_stay_text(client: TestClient):
    for text in ("{{ 7 * 7 }}", "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}"):
        counts = []
        for content in (text, "y" * len(text)):
            body = {"model": "tiny", "messages": [{"role": "user", "content": content}]}
            answer = client.post("/tokenize", json=body)
            counts.append(client.post("/detokenize", json={"tokens": answer.json()["tokens"]}).json()["prompt"])
        assert counts[0].replace(text, "") == counts[1].replace("y" * len(text), "")
