"""`bloomery audit`: tables, JSON, a picture, and mistakes in one line."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from bloomery.cli.main import main


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a tokenizer of 300 ids."""
    folder = tmp_path_factory.mktemp("audit")
    rng = random.Random(0)
    texts = [" ".join(f"term{rng.randrange(80)}" for _ in range(30)) for _ in range(60)]
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    at = ("--home", str(folder / "home"), "--quiet")
    assert main(["curate", str(folder / "a.jsonl"), *at]) == 0
    assert main(["tokenize", "--set", "tokenizer.vocab_size=300", *at]) == 0
    return folder / "home"


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "said.tsv"
    rows = [("term1 term2", "term1 Wort", "λέξη term2"), ("term3", "term4 und", "και"), ("term5 term6", "ok ok", "ναι")]
    path.write_text("en\tde\tel\n" + "".join("\t".join(row) + "\n" for row in rows))
    return path


def test_one_tokenizer_in_full_and_as_json(call: Any, home: Path, texts: Path, tmp_path: Path):
    at = ("--home", str(home), "--quiet")
    plot = tmp_path / "a.svg"
    asked = ("audit", "--texts", str(texts), "--price", "2.5", "--tokens-per-second", "40", *at)
    shown = call(*asked, "--plot", str(plot))
    assert shown.code == 0, shown.err
    for word in ("premium", "Greek", "coverage", "by script", "price of 1M", "s a sentence", "less than a character"):
        assert word in shown.out, word
    assert "<svg" in plot.read_text() and "tokens for what en says with one" in plot.read_text()
    data = json.loads(call(*asked, "--json").out)
    assert data["kind"] == "audit"
    rows = {row["language"]: row for row in data["audit"]["tokenizers"][0]["languages"]}
    assert rows["en"]["premium"] == 1.0 < rows["de"]["premium"] < rows["el"]["premium"]
    assert rows["el"]["price_of_million_reference_tokens"] == 2.5 * rows["el"]["premium"]


def test_several_side_by_side(call: Any, home: Path, texts: Path, tmp_path: Path, shared_data: Path):
    name = next((home / "artifacts").glob("tokenizer-*")).name
    pieces = str(shared_data / "tokenizers" / "spm_test_model.model")
    asked = ("audit", name, pieces, "--texts", str(texts), "--home", str(home), "--quiet")
    out = call(*asked, "--languages", "el", "--set", f"audit.price.{name}=3").out
    assert f"{name} median" in out and "spm_test_model premium" in out and "de" not in out.split()
    assert "as unknown: not cheap, lost" in out and "do not come back exactly" in out


def test_mistakes(call: Any, home: Path, texts: Path, tmp_path: Path):
    at = ("--home", str(home))
    asked = ("audit", "--texts", str(texts))
    assert "no.thing" in call.mistake("audit", "no.thing", "--texts", str(texts), *at)
    assert "no such file" in call.mistake("audit", "--texts", str(tmp_path / "none"), *at)
    assert ".svg" in call.mistake(*asked, "--plot", "a.xls", *at)
    assert "--price" in call.mistake(*asked, "--price", "cheap", *at)
    assert "not audited" in call.mistake(*asked, "--price", "gpt=3", *at)
    assert 'no language "xx"' in call.mistake(*asked, "--reference", "xx", *at)
    assert "no tokenizer" in call.mistake("audit", "--texts", str(texts), "--home", str(tmp_path / "empty"))
