"""`bloomery runs card`: for a terminal, for scripts, and as a folder that other readers of datasets take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard

from bloomery.core.artifact import Artifact
from bloomery.corpus import CurateConfig, read_documents
from bloomery.corpus.problems import Problems
from bloomery.corpus.sources import read_sources


def test_a_card_and_a_folder_that_is_a_dataset(call: Any, tiny: Any, tmp_path: Path):
    home = ("--home", str(tiny.home), "--quiet")
    page = call("runs", "card", *home).out
    assert DatasetCard(page).data.to_dict()["size_categories"] == ["n<1K"]
    card = json.loads(call("runs", "card", "--json", "--examples", "1", *home).out)
    assert len(card["examples"]) == 1 and card["documents"] == sum(r["documents"] for r in card["splits"].values())
    out = tmp_path / "hub"
    told = call("runs", "card", card["name"], "--out", str(out), "--data", "--license", "cc0-1.0", *home)
    assert told.code == 0 and str(out / "README.md") in told.out
    assert DatasetCard.load(out / "README.md").data.to_dict()["license"] == "cc0-1.0"
    assert json.loads((out / "card.json").read_text())["id"] == card["id"]
    # Our own reader of datasets in Hugging Face's layout finds the same texts in the same splits.
    corpus = Artifact.open(tiny.home / "artifacts" / card["name"])
    config = CurateConfig(sources=(f"hf:{out}",))
    read = [(d.metadata["split"], d.text) for d in read_sources(config, Problems(strict=True), workers=1)]
    splits = ("train", "validation", "test")
    assert sorted(read) == sorted((split, d.text) for split in splits for d in read_documents(corpus, split))


def test_hugging_faces_library_loads_it(call: Any, tiny: Any, tmp_path: Path, monkeypatch: Any):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    out = tmp_path / "hub"
    call("runs", "card", "--out", str(out), "--data", "--home", str(tiny.home), "--quiet")
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    card = json.loads((out / "card.json").read_text())
    assert {name: len(rows) for name, rows in loaded.items()} == {
        name: row["documents"] for name, row in card["splits"].items() if row["documents"]
    }


def test_mistakes(call: Any, tiny: Any, tmp_path: Path):
    home = ("--home", str(tiny.home))
    assert "--out" in call.mistake("runs", "card", "--data", *home)
    assert "no corpus" in call.mistake("runs", "card", "corpus-000000000000", *home)
    (tmp_path / "file").write_text("x")
    assert "cannot write" in call.mistake("runs", "card", "--out", str(tmp_path / "file" / "x"), *home)
