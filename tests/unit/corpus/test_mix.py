"""Mixing a corpus: shares got against shares asked, repetition, and the same bytes however it is read."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ConfigError, DataError
from bloomery.core.workspace import Workspace
from bloomery.corpus import CurateConfig, curate, read_documents
from bloomery.corpus.config import plain_config
from bloomery.corpus.mix_config import MixConfig

LANGUAGES = {"en": 300, "de": 125, "sw": 20}


def _words(rng: random.Random, count: int) -> str:
    return " ".join("".join(rng.choice("abcdefghijklmnop") for _ in range(rng.randint(3, 9))) for _ in range(count))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources: web of three languages with sites, and books in English."""
    folder = tmp_path_factory.mktemp("mix")
    rng = random.Random(1)
    rows: list[dict[str, Any]] = []
    for language, count in LANGUAGES.items():
        for number in range(count):
            site = "en.wikipedia.org" if number % 10 == 0 else f"site{number % 7}.com"
            url = f"https://{site}/{language}/{number}"
            rows.append({"text": _words(rng, rng.randint(20, 120)), "language": language, "url": url})
    rng.shuffle(rows)
    (folder / "web.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    books = [{"text": _words(rng, 400), "language": "en"} for _ in range(30)]
    (folder / "books.jsonl").write_text("".join(json.dumps(row) + "\n" for row in books))
    return folder


def _made(folder: Path, workspace: Workspace, *, workers: int = 1, order: int = 1, **mix: Any) -> Artifact:
    sources = [str(folder / "web.jsonl"), str(folder / "books.jsonl")][::order]
    fields = ("language", "url")
    config = CurateConfig(
        sources=tuple(sources), metadata_fields=fields, mix=MixConfig(**mix), shard_bytes=100_000, decontaminate_words=0
    )
    return curate(config=config, workspace=workspace, workers=workers)


def _report(corpus: Artifact) -> dict[str, Any]:
    return json.loads(corpus.file("report.json").read_text())["mix"]


def _shards(corpus: Artifact) -> list[bytes]:
    return [path.read_bytes() for path in corpus.files("*.jsonl.zst")]


def test_weights_are_the_shares_of_bytes(folder: Path, workspace: Workspace):
    weights = {str(folder / "books.jsonl"): 1, "*": 3}
    corpus = _made(folder, workspace, weights=weights)
    texts = list(read_documents(corpus, "train"))
    sizes = Counter[str]()
    for document in texts:
        sizes["books" if document.source.endswith("books.jsonl") else "web"] += len(document.text.encode())
    assert sizes["books"] / sizes.total() == pytest.approx(0.25, abs=0.01)
    report = _report(corpus)
    assert report["unit"] == "bytes" and report["size"] == sizes.total() == corpus.metrics["text_bytes"]["train"]
    assert report["sources"]["*"]["asked"] == 0.75 and report["sources"]["*"]["got"] == sizes["web"] / sizes.total()
    assert report["documents"] == len(texts) and report["all_shares_met"]


def test_temperature_evens_out_languages_within_what_may_be_repeated(folder: Path, workspace: Workspace):
    corpus = _made(folder, workspace, temperature=5.0, max_epochs=3.0)
    plain = _made(folder, workspace)
    sizes = Counter[str]()
    for document in read_documents(plain, "train"):
        sizes[document.metadata["language"]] += len(document.text.encode())
    powers = {language: size**0.2 for language, size in sizes.items()}
    report = _report(corpus)["languages"]
    for language, power in powers.items():
        assert report[language]["asked"] == pytest.approx(power / sum(powers.values()))
    copies = Counter(document.id for document in read_documents(corpus, "train"))
    assert max(copies.values()) <= 3
    assert report["sw"]["epochs"] == pytest.approx(3.0, abs=0.05)  # asked for more than three times what there is
    held = report["en"]["got"] / report["de"]["got"]
    assert held == pytest.approx(powers["en"] / powers["de"], rel=0.05)  # the others keep their proportion
    assert not _report(corpus)["all_shares_met"] and _report(corpus)["notes"]


def test_sites_get_their_share_with_their_subdomains(folder: Path, workspace: Workspace):
    corpus = _made(folder, workspace, domains={"wikipedia.org": 0.3})
    documents = list(read_documents(corpus, "train"))
    inside = [d for d in documents if "wikipedia" in d.metadata.get("url", "")]
    share = sum(len(d.text) for d in inside) / sum(len(d.text) for d in documents)
    assert share == pytest.approx(0.3, abs=0.01)
    assert len({d.id for d in inside}) < len(inside)  # there was a tenth: they are repeated


def test_documents_may_be_the_unit_and_limits_a_sources_own(folder: Path, workspace: Workspace):
    books = str(folder / "books.jsonl")
    corpus = _made(folder, workspace, unit="documents", size=400, weights={books: 1, "*": 1}, epochs={books: 2})
    found = Counter(d.source for d in read_documents(corpus, "train"))
    there = len({d.id for d in read_documents(corpus, "train") if d.source == books})
    assert found[books] == 2 * there and sum(found.values()) == pytest.approx(400, abs=3)


def test_the_same_bytes_whatever_reads_and_however_much_memory(folder: Path, workspace: Workspace, tmp_path: Path):
    asked: dict[str, Any] = {"temperature": 2.0, "seed": 5}
    first = _made(folder, workspace, **asked)
    for number, (workers, order) in enumerate(((3, 1), (1, -1))):
        other = _made(folder, Workspace(tmp_path / str(number)), workers=workers, order=order, **asked)
        assert [d.text for d in read_documents(other, "train")] == [d.text for d in read_documents(first, "train")]
        assert order < 0 or _shards(other) == _shards(first)
    small = _made(folder, Workspace(tmp_path / "small"), bucket_bytes=2000, **asked)
    assert _shards(small) == _shards(first)
    again = _made(folder, workspace, temperature=2.0, seed=6)
    assert [d.id for d in read_documents(again, "train")] != [d.id for d in read_documents(first, "train")]


def test_a_shuffle_alone_keeps_every_document_once(folder: Path, workspace: Workspace):
    plain = [d.id for d in read_documents(_made(folder, workspace), "train")]
    corpus = _made(folder, workspace, shuffle=True)
    mixed = [d.id for d in read_documents(corpus, "train")]
    assert mixed != plain and sorted(mixed) == sorted(plain)
    held_out = [[d.id for d in read_documents(corpus, split)] for split in ("validation", "test")]
    assert held_out == [
        [d.id for d in read_documents(_made(folder, workspace), split)] for split in ("validation", "test")
    ]
    still = _made(folder, workspace, shuffle=False, max_epochs=2.0, temperature=1.0)
    assert [d.id for d in read_documents(still, "train")] == plain


def test_larger_shares_only_add(folder: Path, workspace: Workspace):
    sizes = (15_000, 30_000)
    few, many = ({d.id for d in read_documents(_made(folder, workspace, size=size), "train")} for size in sizes)
    assert few < many


def test_a_corpus_that_asks_for_no_mix_has_the_key_that_it_had():
    assert "mix" not in plain_config(CurateConfig())
    assert "mix" not in plain_config(CurateConfig(mix=MixConfig(shuffle=False)))


@pytest.mark.parametrize(
    ("mix", "error", "said"),
    [
        ({"weights": {"bokks.jsonl": 1, "*": 1}}, ConfigError, "bokks"),
        ({"weights": {"WEB": 1}}, ConfigError, r"gives .*books\.jsonl none"),
        ({"weights": {"*": "much"}}, ConfigError, "should be a number"),
        ({"weights": {"*": 0}}, ConfigError, "all 0"),
        ({"domains": {"a.org": 0.7, "b.org": 0.6}}, ConfigError, "more than 1"),
        ({"temperature": -1.0}, ConfigError, "temperature"),
        ({"max_epochs": 0.0}, ConfigError, "max_epochs"),
        ({"size": 1, "unit": "documents", "epochs": {"*": 0}}, DataError, "no training document"),
    ],
)
def test_mistakes(folder: Path, workspace: Workspace, mix: dict[str, Any], error: type[Exception], said: str):
    if "WEB" in mix.get("weights", {}):
        mix = {"weights": {str(folder / "web.jsonl"): 1}}
    with pytest.raises(error, match=said):
        _made(folder, workspace, **mix)
