"""`bloomery prompt show`: the library, a prompt, its messages for a sample, its exact tokens."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from bloomery.cli.main import main

make_tiny_model = runpy.run_path(str(Path(__file__).parents[2] / "tiny_model.py"))["make_tiny_model"]


@pytest.fixture
def samples(tmp_path) -> str:
    path = tmp_path / "samples.jsonl"
    rows = [{"id": f"s{n}", "input": f"film {n}", "target": "good" if n % 2 else "bad"} for n in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_library_and_a_prompt(capsys, tmp_path):
    assert main(["prompt", "show", "--home", str(tmp_path)]) == 0
    assert "thought" in capsys.readouterr().out
    assert main(["prompt", "show", "classify", "--home", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["prompt"].startswith("classify@1#") and 'take = "choice"' in told["toml"]
    assert main(["prompt", "show", "--home", str(tmp_path), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) >= 5


def test_messages_of_a_sample_and_its_tokens(capsys, tmp_path, samples):
    from bloomery.tokenizer import Tokenizer

    folder = make_tiny_model(tmp_path / "tiny", context=1024)
    home = ["--home", str(tmp_path / "home"), "--samples", samples]
    assert main(["prompt", "show", "classify", *home, "--sample", "s3"]) == 0
    out = capsys.readouterr().out
    assert "[user]" in out and "Text: film 3" in out and "bad, good" in out
    assert main(["prompt", "show", "classify", *home, "--no-chat", "--model", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    text = told["messages"][0]["content"]
    assert text.endswith("Text: film 0\nAnswer:")
    assert [one["id"] for one in told["tokens"]] == Tokenizer.load(folder).encode(text, add_bos=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["classify", "--model", "x"], "which samples"),
        (["no-such"], "no prompt"),
        (["classify", "--samples", "none.jsonl"], "no such file"),
    ],
)
def test_mistakes_end_in_one_line(arguments, said: str, capsys, tmp_path):
    assert main(["prompt", "show", *arguments, "--home", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
