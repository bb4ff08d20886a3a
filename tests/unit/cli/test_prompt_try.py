"""`bloomery prompt try`: a score with its interval and what it took, every answer to be read."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from bloomery.cli.main import main

make_tiny_model = runpy.run_path(str(Path(__file__).parents[2] / "tiny_model.py"))["make_tiny_model"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(make_tiny_model(tmp_path_factory.mktemp("models") / "tiny", context=1024))


@pytest.fixture
def samples(tmp_path) -> str:
    path = tmp_path / "samples.csv"
    rows = [f"film {n},{'good' if n % 2 else 'bad'},{'dev' if n < 8 else 'train'}" for n in range(16)]
    path.write_text("input,target,split\n" + "\n".join(rows) + "\n")
    return str(path)


@pytest.mark.parametrize("how", ["direct", "likelihood"])
def test_a_prompt_is_tried(how: str, model, samples, tmp_path, capsys):
    answers = tmp_path / "answers.jsonl"
    arguments = [samples, "--model", model, "--no-chat", "--how", how, "--home", str(tmp_path), "--json"]
    assert main(["prompt", "try", "classify", *arguments, "--limit", "5", "--answers", str(answers)]) == 0
    told = json.loads(capsys.readouterr().out)
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    assert told["samples"] == len(rows) == 5 and told["failed"] == 0
    assert told["score"]["low"] <= told["score"]["value"] <= told["score"]["high"]
    assert told["score"]["value"] == pytest.approx(sum(row["score"] for row in rows) / 5)
    assert told["prompt_tokens"] == sum(row["prompt_tokens"] for row in rows) > 0
    assert {row["text"] for row in rows} <= {"good", "bad"} and rows[0]["calls"][0]["messages"]


def test_mistakes(model, samples, tmp_path, capsys):
    home = ["--home", str(tmp_path)]
    assert main(["prompt", "try", "classify", samples, "--model", model, "--split", "test", *home]) == 2
    assert "no samples of test" in capsys.readouterr().err
    assert main(["prompt", "try", "classify", samples, "--model", model, "--scorer", "exakt", *home]) == 2
    assert "exact" in capsys.readouterr().err


def test_ways_of_asking_and_their_flags(model, samples, tmp_path, capsys):
    """Votes are so many calls a sample; what is drawn follows from the seed; splits and limits choose samples."""

    def told(*arguments: str) -> dict:
        home = ["--home", str(tmp_path), "--concurrency", "1", "--json"]
        assert main(["prompt", "try", *arguments, "--model", model, "--no-chat", *home]) == 0
        return json.loads(capsys.readouterr().out)

    written = [tmp_path / f"{name}.jsonl" for name in ("one", "again", "other")]
    for path, seed in zip(written, ("4", "4", "5"), strict=True):
        votes = ["--how", "votes", "--votes", "2", "--seed", seed, "--answers", str(path)]
        assert told("question", samples, "--limit", "1", *votes)["calls"] == 2
    said = [[json.loads(line)["calls"] for line in path.read_text().splitlines()] for path in written]
    assert said[0] == said[1] != said[2]
    assert told("classify", samples, "--split", "all", "--scorer", "choice")["samples"] == 16
    assert told("classify", samples, "--split", "dev", "--limit", "0")["samples"] == 8


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--votes", "0"], "--votes"),
        (["--concurrency", "0"], "--concurrency"),
        (["--limit", "-1"], "--limit"),
        (["--how", "guess"], "--how"),
        (["--split", "train"], "--split"),
    ],
)
def test_flags_out_of_range(model, samples, tmp_path, capsys, arguments, said):
    assert main(["prompt", "try", "classify", samples, "--model", model, *arguments, "--home", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") <= 2 and "Traceback" not in told


@pytest.mark.parametrize("split", ["dev", "test"])
def test_what_makes_the_score_another_one_is_said(split, model, tmp_path, capsys):
    """A file without splits has no test; a prompt for passages is nothing without them."""
    path = tmp_path / "samples.jsonl"
    path.write_text('{"input": "a?", "target": "b"}\n{"input": "c?", "target": "d", "passages": ["c is d"]}\n')
    arguments = [str(path), "--model", model, "--no-chat", "--split", split, "--home", str(tmp_path)]
    assert main(["prompt", "try", "passages", *arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    splits, passages = json.loads(out)["notes"]
    assert f"there is no {split}: all its 2 samples" in splits and "1 of 2 samples have none" in passages
    assert f"note: {splits}" in err and f"note: {passages}" in err


def test_a_file_with_splits_has_no_notes(model, samples, tmp_path, capsys):
    arguments = [samples, "--model", model, "--no-chat", "--limit", "1", "--home", str(tmp_path)]
    assert main(["prompt", "try", "classify", *arguments]) == 0
    assert "note:" not in capsys.readouterr().err
