"""Python clients beside openai, unmodified, each in a process of its own: agents, pydantic-ai, inspect_ai, lm-eval.

inspect_ai cannot be installed beside our pins: `make clients` gives it an environment of its own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

FOLDER = Path(__file__).parent / "python"
INSPECT = Path(__file__).parents[2] / ".venv-inspect" / "bin" / "python"
ASK: dict[str, Any] = {"model": "tiny", "temperature": 0, "max_tokens": 20}
# At this temperature every token is about as likely as any other: an end comes long before the limit. The Agents SDK
# raises when it does not.
TO_THE_END: dict[str, Any] = {"model": "tiny", "temperature": 2, "max_tokens": 700, "seed": 3}


def run(package: str, script: str, *arguments: str, stdin: Any = None) -> Any:
    """What a script prints, as JSON; skipped, and failed where CI=true, without its package."""
    python = INSPECT if package == "inspect_ai" else Path(sys.executable)
    there = INSPECT.is_file() if package == "inspect_ai" else importlib.util.find_spec(package) is not None
    if not there:
        reason = f"{package} is not installed: make clients"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OPENAI_AGENTS_DISABLE_TRACING": "1"}
    done = subprocess.run(
        [str(python), str(FOLDER / script), *arguments],
        input=None if stdin is None else json.dumps(stdin),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=240,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | offline,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    return json.loads(done.stdout.splitlines()[-1])


def answer(server: str, *messages: tuple[str, str], **options: Any) -> Any:
    """What the openai package is told."""
    with openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0) as client:
        asked: list = [{"role": role, "content": content} for role, content in messages]
        return client.chat.completions.create(messages=asked, **(options or ASK))


@pytest.mark.parametrize(
    ("package", "script", "options"),
    [("agents", "agents_run.py", TO_THE_END), ("pydantic_ai", "pydantic_ai_run.py", ASK)],
)
def test_agents_get_the_same_answer_over_both_routes(server: str, package: str, script: str, options: dict):
    said = [("system", "Be brief"), ("user", "Hello, furnace")]
    first = answer(server, *said, **options)
    text = first.choices[0].message.content
    second = answer(server, *said, ("assistant", text), ("user", "And?"), **options).choices[0].message.content
    for whole, *streamed, tokens, again in run(package, script, server).values():
        assert whole == text and set(streamed) == {text}
        assert tokens == first.usage.completion_tokens and again == second


def test_agents_call_functions_over_both_routes(server: str):
    for whole, streamed, kinds, again in run("agents", "agents_tools.py", server).values():
        assert whole == streamed and whole in ("hot in Ur", "hot in Uruk", "hot in Nippur")
        assert again.startswith("hot in ") and kinds == ["tool_called", "tool_output"]


def test_inspect_ai(server: str, tmp_path: Path):
    got = run("inspect_ai", "inspect_ai_run.py", server, str(tmp_path))
    expected = [answer(server, ("user", text)) for text in ("Hello, furnace", "Once upon a time")]
    assert got["status"] == "success"
    assert got["outputs"] == [one.choices[0].message.content for one in expected]
    assert got["tokens"] == [one.usage.completion_tokens for one in expected]


PAIRS = [("Once upon", " a time there was"), ("def smelt(", "ore):"), ("", "Ein Ofen"), ("öffnet", " früh. 🔥")]
TEXTS = ["Once upon a time there was a small furnace.", "Ein Ofen, klein und heiß", "a b " * 200]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the server's process: sums over threads are in another order, and differ in their last bits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_lm_eval_scores_as_we_do_in_process(server: str, tiny_folder: Path, one_thread: None):
    import bloomery as bl

    got = run("lm_eval", "lm_eval_scores.py", server, stdin={"pairs": PAIRS, "texts": TEXTS})
    model = bl.load(tiny_folder, device="cpu")
    encode = model.tokenizer.encode
    assert got["backend"] == "remote" and got["ids"] == [encode(text, allow_special=True) for text in TEXTS]
    assert got["eot"] == model.tokenizer.eos_id and got["prefix"] == model.tokenizer.bos_id

    def score(ids: list[int], start: int) -> tuple[float, bool]:
        result = model.generate(ids, max_new_tokens=0, prompt_logprobs=1)
        entries = result.prompt_logprobs[start:]
        return sum(e.logprob for e in entries), all(e.logprob == e.top[0].logprob for e in entries)

    for (context, rest), (total, greedy) in zip(PAIRS, got["pairs"], strict=True):
        # lm-eval: the context's own ids, then what the ids of the whole have beyond them; "" is the prefix token.
        before = encode(context) if context else [got["prefix"]]
        after = encode(context + rest)[len(before) :] if context else encode(rest)
        expected, is_greedy = score(before + after, len(before))
        assert abs(total - expected) < 1e-6 and greedy == is_greedy
    for text, total in zip(TEXTS[:2], got["texts"][:2], strict=True):
        assert abs(total - score([got["prefix"], *encode(text)], 1)[0]) < 1e-6
    for text, generated in zip(TEXTS[:2], got["generated"][:2], strict=True):
        ours = model.generate(encode(text), max_new_tokens=12, temperature=0.0, stop=[" ", "<|endoftext|>"])
        assert generated == ours.text
