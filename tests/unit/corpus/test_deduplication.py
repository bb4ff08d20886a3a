"""The chain in a whole curation: each kind with its reason, what was cut in a file, and the counts of both."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.artifact import Artifact
from bloomery.core.errors import DataError
from bloomery.core.workspace import Workspace
from bloomery.corpus import CurateConfig, DedupConfig, Document, curate, curate_inputs, read_documents
from bloomery.corpus.removed_texts import REMOVED_FILE
from bloomery.corpus.shards import DROPPED_FILE, read_lines


def _sentence(rng: random.Random, words: int = 12) -> str:
    return " ".join(f"w{rng.randrange(10**6)}" for _ in range(words)) + "."


def _texts(seed: int, count: int = 20, lines: int = 3) -> list[str]:
    rng = random.Random(seed)
    return ["\n\n".join(_sentence(rng) for _ in range(lines)) for _ in range(count)]


def _corpus(workspace: Workspace, path: Path, rows: list[Any], dedup: DedupConfig, **config: Any) -> Artifact:
    rows = [row if isinstance(row, dict) else {"text": row} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {"metadata_fields": ("url",), "validation_fraction": 0.0, "test_fraction": 0.0, **config}
    return curate(path, config=CurateConfig(dedup=dedup, decontaminate_words=0, **config), workspace=workspace)


def _kept(corpus: Artifact) -> list[Document]:
    return list(read_documents(corpus, "train"))


def _dropped(corpus: Artifact) -> list[dict[str, Any]]:
    return list(read_lines(corpus.file(DROPPED_FILE)))


def test_of_a_page_the_first_document_is_kept(workspace: Workspace, tmp_path: Path):
    texts = _texts(1)
    rows = [{"text": text, "url": f"https://a.org/{n % 15}/?utm_source={n}"} for n, text in enumerate(texts)]
    corpus = _corpus(workspace, tmp_path / "a.jsonl", [*rows, "no page"], DedupConfig(urls=True))
    assert [d.text for d in _kept(corpus)] == [*texts[:15], "no page"]
    first = Document.of(texts[0], "").id
    assert _dropped(corpus)[0]["reason"] == "same_url" and _dropped(corpus)[0]["kept"] == first
    assert _dropped(corpus)[0]["detail"] == f"a.org/0, as {first}"
    report = json.loads((corpus.path / "report.json").read_text())["dedup"]
    assert report == {"urls": {"documents_without_url": 1, "dropped": 5}}


def test_documents_without_a_url_are_told_of(tmp_path: Path):
    notes: list[str] = []
    home = Workspace(tmp_path / "h", listeners=[lambda e: notes.append(e.data["text"]) if e.kind == "note" else None])
    rows = [{"text": text, "url": "https://a.org/"} for text in _texts(1)]
    _corpus(home, tmp_path / "a.jsonl", rows, DedupConfig(urls=True), metadata_fields=())
    assert any('20 documents have no URL in "url"' in note and "metadata_fields" in note for note in notes)


def test_lines_and_paragraphs_are_cut_with_their_reason(workspace: Workspace, tmp_path: Path):
    texts = _texts(2)
    menu, note = "Home | About | Contact us today", "Read this with good care\nbefore you go, it matters."
    rows = [f"{menu}\n{text}\n\n{note}" for text in texts]
    rows += [f"{menu}\n\n{note}", f"{note.upper()}\n{menu}\n{texts[0]} and more"]
    corpus = _corpus(workspace, tmp_path / "a.jsonl", rows, DedupConfig(lines=True, paragraphs=True))
    kept = _kept(corpus)
    assert [d.text for d in kept] == [rows[0], *texts[1:], f"{texts[0].split(chr(10))[-1]} and more"]
    assert kept[1].metadata["repeated_lines"] == kept[1].metadata["repeated_paragraphs"] == 1
    (dropped,) = _dropped(corpus)
    assert dropped["reason"] == "repeated_lines" and Document.of(rows[0], "").id in dropped["detail"]
    removed = list(read_lines(corpus.file(REMOVED_FILE)))
    report = json.loads((corpus.path / "report.json").read_text())["dedup"]
    for kind, reason in (("lines", "repeated_line"), ("paragraphs", "repeated_paragraph")):
        own = [row for row in removed if row["reason"] == reason]
        assert report[kind]["pieces"] == len(own) > 0
        assert report[kind]["characters"] == sum(len(row["text"]) for row in own)
        assert report[kind]["documents_cut"] == len({row["id"] for row in own})
    assert {row["first"] for row in removed} == {Document.of(rows[0], "").id}


def test_runs_of_words_are_cut_where_they_occur_again(workspace: Workspace, tmp_path: Path):
    texts, rng = _texts(3), random.Random(9)
    notice = " ".join(_sentence(rng) for _ in range(3))
    rows = [f"{text} {notice} {_sentence(rng)}" if n % 2 else text for n, text in enumerate(texts)]
    rows.append(notice)
    corpus = _corpus(workspace, tmp_path / "a.jsonl", rows, DedupConfig(substring_words=30))
    expected = [row if n < 2 else row.replace(notice + " ", "") for n, row in enumerate(rows[:-1])]
    assert [d.text for d in _kept(corpus)] == expected
    assert [row["reason"] for row in _dropped(corpus)] == ["repeated_substrings"]
    removed = list(read_lines(corpus.file(REMOVED_FILE)))
    assert {row["text"].strip() for row in removed} == {notice}
    assert {row["first"] for row in removed} == {Document.of(rows[1], "").id}


def test_what_is_left_of_a_text_may_be_another(workspace: Workspace, tmp_path: Path):
    texts, short = _texts(4), "Nine words that are a text of their own."
    rows = [*texts, short, f"{texts[0]} {short}", f"{texts[5]}\n{texts[6]}"]
    corpus = _corpus(workspace, tmp_path / "a.jsonl", rows, DedupConfig(substring_words=10))
    assert [d.text for d in _kept(corpus)] == [*texts, short]
    assert corpus.metrics["dropped"] == {"duplicate": 1, "repeated_substrings": 1}


def test_evaluation_texts_are_taken_out_or_the_stage_stops(workspace: Workspace, tmp_path: Path):
    texts = _texts(5)
    (tmp_path / "eval.jsonl").write_text(json.dumps({"question": texts[2].upper(), "answer": "yes"}) + "\n")
    dedup = DedupConfig(evaluation=(str(tmp_path / "eval.jsonl"),), near=True)
    corpus = _corpus(workspace, tmp_path / "a.jsonl", texts, dedup)
    assert [d.text for d in _kept(corpus)] == [*texts[:2], *texts[3:]]
    assert [row["reason"] for row in _dropped(corpus)] == ["overlaps_evaluation"]
    report = json.loads((corpus.path / "report.json").read_text())["dedup"]
    assert report["evaluation"]["files"] == {
        str(tmp_path / "eval.jsonl"): {"texts": 2, "of_few_words": 1, "documents_dropped": 1}
    }
    key = curate_inputs(CurateConfig(sources=(str(tmp_path / "a.jsonl"),), dedup=dedup)).key
    (tmp_path / "eval.jsonl").write_text(json.dumps({"question": "another"}) + "\n{")
    assert curate_inputs(CurateConfig(sources=(str(tmp_path / "a.jsonl"),), dedup=dedup)).key != key
    with pytest.raises(DataError, match=r"eval.jsonl cannot be read: line 2"):
        _corpus(workspace, tmp_path / "a.jsonl", texts, dedup)


def test_a_corpus_that_asks_for_nothing_is_what_it_was(workspace: Workspace, tmp_path: Path):
    corpus = _corpus(workspace, tmp_path / "a.jsonl", _texts(6), DedupConfig())
    assert "dedup" not in corpus.config and not (corpus.path / REMOVED_FILE).exists()
    assert "dedup" not in json.loads((corpus.path / "report.json").read_text())
