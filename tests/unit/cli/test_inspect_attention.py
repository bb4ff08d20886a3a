"""`bloomery inspect attention`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bloomery.cli.inspect_attention import attention

TEXT = "term1 term2 term3"


def test_numbers_and_a_picture(call, tiny):
    answer = call("inspect", "attention", "--text", TEXT, "--home", str(tiny.home), "--query", "2")
    assert answer.code == 0
    wanted = ("q.k", "masked", "|weight v|", "hidden", "all heads of the layer", "rows are queries", "not explanation")
    assert [words for words in wanted if words not in answer.out] == []
    assert "differs from what was served by at most" in answer.out
    assert max(len(line) for line in answer.out.splitlines() if "█" not in line) < 160
    assert attention.__doc__


def test_json_is_all_of_it(call, tiny):
    options = ("--text", TEXT, "--home", str(tiny.home), "--json")
    view = json.loads(call("inspect", "attention", *options, "--layer", "0", "--head", "-1", "--query", "1").out)
    assert (view["layer"], view["head"], view["query"]["index"]) == (0, view["heads"] - 1, 1)
    assert sum(key["weight"] for key in view["keys"]) == pytest.approx(1, abs=1e-5)
    assert view["keys"][2]["masked"] is None and view["keys"][0]["vector"] is None
    assert view["max_difference"] < 1e-4
    whole = json.loads(call("inspect", "attention", *options, "--vectors").out)
    assert len(whole["keys"][0]["vector"]) == view["head_dim"]


def test_the_preset_text(call, tiny):
    view = json.loads(call("inspect", "attention", "--home", str(tiny.home), "--json").out)
    assert "".join(token["text"] for token in view["queries"]).endswith("How are you?")


@pytest.mark.parametrize("name", ["a.html", "b.svg", "c.PNG"])
def test_output(call, tiny, tmp_path: Path, name: str):
    answer = call("inspect", "attention", "--home", str(tiny.home), "--output", str(tmp_path / name))
    assert answer.code == 0 and f"written: {tmp_path / name}" in answer.out
    assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--layer", "7"), "no layer 7 (0 to 0"),
        (("--head", "99"), "no head 99"),
        (("--query", "99"), "no query 99"),
        (("--text", "term1 " * 200), "shorten it"),
        (("--cross",), "no cross attention"),
        (("--target", "x"), "no target"),
        (("--output", "a.pdf"), "end it in .html"),
        (("--output", "/nowhere/at/all.html"), "No such file"),
        (("--vectors",), "--json"),
        (("--layer", "x"), "layer"),
    ],
)
def test_mistakes(call, tiny, options: tuple[str, ...], words: str):
    assert words in call.mistake("inspect", "attention", "--home", str(tiny.home), *options)
