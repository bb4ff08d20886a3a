"""`bloomery curate`, and what is said of bad documents."""

from __future__ import annotations

import json
from pathlib import Path


def test_help_lists_what_set_takes(call):
    said = " ".join(call("curate", "--help").out.split())
    for key in ("substring_words", "temperature", "national_id", "paragraph_languages", "run --keys curate"):
        assert key in said.replace("│ │ ", "")


def test_json_has_counts(call, tiny, tmp_path: Path):
    answer = call("curate", str(tiny.texts), "--home", str(tmp_path / "h"), "--json", "--quiet")
    made = json.loads(answer.out)
    assert made["kind"] == "corpus"
    metrics = made["metrics"]
    assert sum(metrics["documents"].values()) + sum(metrics["dropped"].values()) == 80


def test_text_has_counts(call, tiny, tmp_path: Path):
    answer = call("curate", str(tiny.texts), "--home", str(tmp_path / "h"), "--quiet")
    assert answer.code == 0 and "train: " in answer.out and "documents" in answer.out


def test_a_binary_file_given_as_text(call, tmp_path: Path):
    path = tmp_path / "picture.txt"
    path.write_bytes(bytes(range(256)) * 100)
    line = call.mistake("curate", str(path), "--home", str(tmp_path / "h"))
    assert "picture.txt" in line


def test_nothing_there(call, tmp_path: Path):
    assert "no-such" in call.mistake("curate", str(tmp_path / "no-such"), "--home", str(tmp_path / "h"))
    assert "*.md" in call.mistake("curate", str(tmp_path / "*.md"), "--home", str(tmp_path / "h"))


def test_files_of_rules_that_are_not_there_are_refused_before_a_run(call, tmp_path: Path):
    source, home = tmp_path / "a.txt", tmp_path / "h"
    source.write_text("A text.\n" * 50)
    for flags in (["--classifier", "no-such"], ["--scores", "no-such"], ["--set", "filter.links=no-such"]):
        line = call.mistake("curate", str(source), *flags, "--home", str(home))
        assert "no-such is not there (" in line and "filter." in line
    assert not list(home.glob("scratch/*")) and not list(home.glob("runs/*"))


def test_deduplication_is_asked_for_and_told(call, tmp_path: Path):
    texts = [" ".join(f"word{n}x{i}" for i in range(40)) for n in range(12)]
    rows = [*texts, texts[3] + " Yes."]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    (tmp_path / "eval.jsonl").write_text(json.dumps({"question": texts[5]}) + "\n")
    asked = ["dedup.near=true", "dedup.lines=true", f'dedup.evaluation=["{tmp_path / "eval.jsonl"}"]']
    home, source = ("--home", str(tmp_path / "h"), "--quiet"), str(tmp_path / "a.jsonl")
    answer = call("curate", source, *home, *(part for one in asked for part in ("--set", one)))
    assert answer.code == 0
    assert "taken out, near_duplicate: 1" in answer.out and "taken out, overlaps_evaluation: 1" in answer.out
    assert "near duplicates: 1 clusters, the largest of 2 documents" in answer.out
    assert "cut, repeated lines: 0 (0 characters)" in answer.out
    assert "compared with 1 evaluation texts of 1 files" in answer.out
    assert 'did you mean "near"' in call.mistake("curate", source, *home, "--set", "dedup.nearr=true")
    line = call.mistake("curate", source, *home, "--set", 'dedup.evaluation=["nothing.jsonl"]')
    assert "there is no file nothing.jsonl" in line


def test_weights_of_sources_that_are_given(call, tmp_path: Path):
    for name in ("one", 'two "quoted"\x7f'):
        rows = [json.dumps({"text": f"{name} text number {n}"}) + "\n" for n in range(60)]
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    sources = [str(tmp_path / "one.jsonl"), str(tmp_path / 'two "quoted"\x7f.jsonl')]
    weights = f'mix.weights={{"{sources[0]}" = 3, "*" = 1}}'
    made = json.loads(call("curate", *sources, "--set", weights, "--home", str(tmp_path / "h"), "--json").out)
    mixed = json.loads((Path(made["path"]) / "report.json").read_text())["mix"]
    assert mixed["sources"][sources[0]]["asked"] == 0.75
    refused = call.mistake("curate", sources[0], "--set", 'mix.weights={"no" = 1}', "--home", str(tmp_path / "h"))
    assert "names no, which is no source" in refused
