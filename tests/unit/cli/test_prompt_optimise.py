"""`bloomery prompt optimise`: an artifact that the other verbs take; its test samples are never asked."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

from bloomery.cli.main import main

make_tiny_model = runpy.run_path(str(Path(__file__).parents[2] / "tiny_model.py"))["make_tiny_model"]


def test_a_search_on_a_small_model(tmp_path, capsys):
    model = str(make_tiny_model(tmp_path / "tiny", context=1024))
    path = tmp_path / "samples.jsonl"
    splits = ["train", "dev", "test"] * 8
    rows = [
        {"input": f"film {n}", "target": "good" if n % 2 else "bad", "split": split} for n, split in enumerate(splits)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [str(path), "--model", model, "--no-chat", "--tokens", "60000", "--examples", "2"]
    common = ["--home", str(tmp_path / "home"), "--quiet", "--json"]
    assert main(["prompt", "optimise", "classify", *asked, *common]) == 0, capsys.readouterr().err
    told = json.loads(capsys.readouterr().out)
    assert told["kind"] == "prompt" and told["tokens"] <= 60000 and told["samples"] == {"train": 8, "dev": 8}
    answers = (Path(told["path"]) / "answers.jsonl").read_text()
    shown = [row["input"] for row in rows if row["split"] == "test"]
    assert not any(f"{one}\\n" in answers for one in shown)
    assert main(["prompt", "show", told["name"], *common]) == 0
    assert "classify@" in json.loads(capsys.readouterr().out)["prompt"]
    assert main(["prompt", "optimise", "classify", *asked, "--home", str(tmp_path / "home"), "--quiet"]) == 0
    assert "as given" in capsys.readouterr().out
