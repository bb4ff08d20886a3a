"""The trial of a grammar: the same verdict as in this process, as a script of its own, without torch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bloomery.engine import grammar_trial


def grammar(lark: str) -> str:
    return json.dumps({"grammars": [{"lark_grammar": lark}]})


@pytest.mark.parametrize("lark", ['start: "a"', "start: <|im_end|> /[0-9]+/", "start: <[2]>"])
def test_sound_grammars(lark: str):
    assert grammar_trial.trial(grammar(lark), 400, {0: "<|endoftext|>", 2: "<|im_end|>"}) == ""


def test_broken_grammars():
    assert "unknown name" in grammar_trial.trial(grammar("start: a"), 400, {})
    assert "special token" in grammar_trial.trial(grammar("start: <|nope|>"), 10, {0: "<|endoftext|>"})


def test_it_is_a_script_that_loads_little():
    request = {"path": sys.path, "grammar": grammar('start: "a"'), "vocab_size": 300, "special": {"0": "<|end|>"}}
    request |= {"memory_bytes": 2**31, "seconds": 10}
    code = (
        f"import runpy, sys; runpy.run_path({grammar_trial.__file__!r}, run_name='__main__'); "
        "assert not {'torch', 'bloomery'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], input=json.dumps(request), capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == {"error": ""}
