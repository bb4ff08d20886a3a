"""A corpus's card: its counts against the documents themselves, and nothing in it that should not be published."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ConfigError
from bloomery.core.workspace import Workspace
from bloomery.corpus import CurateConfig, curate, read_documents
from bloomery.corpus.card import card_of, size_category
from bloomery.corpus.mix_config import MixConfig
from bloomery.corpus.personal import find_personal
from bloomery.corpus.personal_config import PersonalConfig

MAIL, PHONE, CARD = "ann.miller@kelmans.org", "+44 20 7946 0018", "4012 8888 8888 1881"
PLACE = "home/ann.miller"  # a folder whose name says whose it is


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card") / PLACE / "web"
    folder.mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for number in range(120):
        text = (
            f"Page {number} says: write to {MAIL} or call {PHONE} {'and again ' * (number % 9)}about item {number * 7}."
        )
        row = {
            "text": text,
            "language": "de" if number % 3 else "no",
            "url": f"https://www.site{number % 4}.net/{number}",
        }
        rows.append(row | ({"license": "MIT"} if number % 2 else {}))
    rows += rows[:10]
    # A number that a cut would halve, so that no pattern would find it again.
    rows.append({"text": "x" * 392 + f" {CARD} is a card", "language": "de"})
    (folder / "pages.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    return folder


def _curated(sources: Path, workspace: Workspace, **more: Any) -> Artifact:
    fields = ("language", "url", "license")
    config = CurateConfig(sources=(str(sources),), metadata_fields=fields, decontaminate_words=0, **more)
    return curate(config=config, workspace=workspace, workers=1)


def test_counts_are_those_of_the_documents(sources: Path, workspace: Workspace):
    corpus = _curated(sources, workspace)
    card = card_of(corpus)
    documents = [d for split in ("train", "validation", "test") for d in read_documents(corpus, split)]
    sizes = Counter[str]()
    for document in documents:
        sizes[document.metadata["language"]] += len(document.text.encode())
    assert {name: row["text_bytes"] for name, row in card["languages"].items()} == dict(sizes)
    assert card["languages_are"] == "metadata"
    assert card["documents"] == card["distinct_documents"] == len(documents) == 121
    assert card["looked_at"] == 121 + sum(card["dropped"].values())
    assert card["duplicates"] == card["dropped"]["duplicate"] == 10 and card["problems"] == {"broken_json": 1}
    assert {name: row["documents"] for name, row in card["licenses"].items()} == {"MIT": 60, "unknown": 61}
    assert card["sites"] == {"different": 4, "documents": {f"site{n}.net": 30 for n in range(4)}}
    assert sum(row["characters"] for row in card["splits"].values()) == sum(len(d.text) for d in documents)
    assert card["energy_joules"] == corpus.energy_joules.to_dict() and card["seconds"] == corpus.manifest["seconds"]
    assert card["size_category"] == "n<1K" and card["id"] == corpus.id
    assert card == card_of(corpus) and card["created"].endswith("+00:00")


@pytest.mark.parametrize("personal", [{}, {"all": "mask"}, {"email": "replace"}])
def test_nothing_personal_and_no_place_is_said(sources: Path, workspace: Workspace, personal: dict[str, Any]):
    mix = MixConfig(weights={str(sources / "pages.jsonl"): 1, f"{sources}/*": 0, f"{sources}/gone": 2})
    corpus = _curated(sources, workspace, personal=PersonalConfig(**personal), mix=mix)
    card = card_of(corpus, examples=50)
    said = json.dumps(card)
    assert MAIL not in said and "7946" not in said and "4012" not in said
    assert len(card["examples"]) == 50 and list(card["mix"]["sources"]) == ["web/pages.jsonl"]
    assert card["mix"]["notes"] == ["mix.weights: no training document is of web/gone"]
    assert not any(find_personal(one["text"]) for one in card["examples"])
    assert "home/" not in said and "ann.miller" not in said and str(sources.parent) not in said
    assert card["sources"] == {"web": {"documents": 121, "text_bytes": card["sources"]["web"]["text_bytes"]}}
    assert card["config"]["sources"] == ["web"] and card["examples"][0]["source"] == "web/pages.jsonl"


def test_a_mix_is_told_with_its_shares_and_documents_that_stand_twice_count_once(sources: Path, workspace: Workspace):
    corpus = _curated(sources, workspace, mix=MixConfig(temperature=100.0, max_epochs=2.0))
    card = card_of(corpus, examples=10)
    ids = [d.id for split in ("train", "validation", "test") for d in read_documents(corpus, split)]
    assert card["documents"] == len(ids) and card["distinct_documents"] == len(set(ids)) < len(ids)
    assert card["looked_at"] == 121 + sum(card["dropped"].values())
    assert set(card["mix"]["languages"]) == {"de", "no"}
    assert len({one["id"] for one in card["examples"]}) == 10


def test_languages_are_identified_where_nobody_says_them(tmp_path: Path, workspace: Workspace):
    german = (
        "Der kleine Ofen steht im Garten und am Abend kommen die Leute aus dem Dorf, um das Eisen zu holen. Nummer {}."
    )
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": german.format(n)}) + "\n" for n in range(60)))
    card = card_of(curate(path, workspace=workspace, config=CurateConfig(decontaminate_words=0)))
    assert list(card["languages"]) == ["de"] and card["languages_are"] == "identified by py3langid"
    assert card["languages"]["de"]["documents"] == 60


def test_source_code_has_licenses_and_languages_of_its_own(tmp_path: Path, workspace: Workspace):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "LICENSE").write_text("Apache License\nVersion 2.0, January 2004\n")
    for number in range(40):
        (tree / f"m{number}.py").write_text(f"def function_{number}(value):\n    return value + {number}\n" * 3)
    card = card_of(curate(f"code:{tree}", workspace=workspace, config=CurateConfig(decontaminate_words=0)))
    assert list(card["programming_languages"]) == ["Python"] and "Python" not in card["languages"]
    assert list(card["licenses"]) == ["Apache-2.0"] and list(card["sources"]) == ["code:tree"]


def test_what_is_no_corpus_has_no_card(sources: Path, workspace: Workspace):
    corpus = _curated(sources, workspace)
    other = Artifact(path=corpus.path, id=corpus.id, kind="model", manifest=corpus.manifest)
    with pytest.raises(ConfigError, match="not a corpus"):
        card_of(other)


@pytest.mark.parametrize(
    ("documents", "name"), [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10**9, "1B<n<10B"), (10**13, "n>1T")]
)
def test_sizes_are_the_hubs(documents: int, name: str):
    assert size_category(documents) == name
