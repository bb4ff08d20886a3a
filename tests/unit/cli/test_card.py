"""`bloomery runs card`: for a terminal, for scripts, and as a folder that other readers of datasets take."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard

from bloomery.cli.main import main
from bloomery.core.artifact import Artifact
from bloomery.corpus import CurateConfig, read_documents
from bloomery.corpus.problems import Problems
from bloomery.corpus.sources import read_sources


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a corpus of sixty documents."""
    folder = tmp_path_factory.mktemp("card")
    rng = random.Random(0)
    texts = [" ".join(f"term{rng.randrange(80)}" for _ in range(30)) for _ in range(60)]
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    assert main(["curate", str(folder / "a.jsonl"), "--home", str(folder / "home"), "--quiet"]) == 0
    return folder / "home"


def test_a_card_and_a_folder_that_is_a_dataset(call: Any, home: Path, tmp_path: Path):
    at = ("--home", str(home), "--quiet")
    page = call("runs", "card", *at).out
    assert DatasetCard(page).data.to_dict()["size_categories"] == ["n<1K"]
    card = json.loads(call("runs", "card", "--json", "--examples", "1", *at).out)
    assert len(card["examples"]) == 1 and card["documents"] == sum(r["documents"] for r in card["splits"].values())
    out = tmp_path / "hub"
    told = call("runs", "card", card["name"], "--out", str(out), "--data", "--license", "cc0-1.0", *at)
    assert told.code == 0 and str(out / "README.md") in told.out
    assert DatasetCard.load(out / "README.md").data.to_dict()["license"] == "cc0-1.0"
    assert json.loads((out / "card.json").read_text())["id"] == card["id"]
    # Our own reader of datasets in Hugging Face's layout finds the same texts in the same splits.
    corpus = Artifact.open(home / "artifacts" / card["name"])
    config = CurateConfig(sources=(f"hf:{out}",))
    read = [(d.metadata["split"], d.text) for d in read_sources(config, Problems(strict=True), workers=1)]
    splits = ("train", "validation", "test")
    assert sorted(read) == sorted((split, d.text) for split in splits for d in read_documents(corpus, split))


def test_hugging_faces_library_loads_it(call: Any, home: Path, tmp_path: Path, monkeypatch: Any):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    out = tmp_path / "hub"
    call("runs", "card", "--out", str(out), "--data", "--home", str(home), "--quiet")
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    card = json.loads((out / "card.json").read_text())
    assert {name: len(rows) for name, rows in loaded.items()} == {
        name: row["documents"] for name, row in card["splits"].items() if row["documents"]
    }


def test_mistakes(call: Any, home: Path, tmp_path: Path):
    at = ("--home", str(home))
    assert "--out" in call.mistake("runs", "card", "--data", *at)
    assert "no corpus" in call.mistake("runs", "card", "corpus-000000000000", *at)
    (tmp_path / "file").write_text("x")
    assert "cannot write" in call.mistake("runs", "card", "--out", str(tmp_path / "file" / "x"), *at)
