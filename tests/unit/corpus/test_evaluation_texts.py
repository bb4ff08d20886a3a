"""Evaluation texts: overlaps against brute force over tuples of words; nothing passes unread."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.corpus.dedup_config import DedupConfig
from bloomery.corpus.document import Document
from bloomery.corpus.evaluation_texts import EvaluationTexts
from bloomery.corpus.minhash import words_of


def _file(path: Path, texts: list[str]) -> str:
    path.write_text("".join(json.dumps({"q": text}) + "\n" for text in texts))
    return str(path)


def _run(tmp_path: Path, names: list[str], texts: list[str], **config: Any) -> tuple[list[str], dict[str, str], Any]:
    dropped: dict[str, str] = {}

    def drop(document: Document, reason: str, detail: str, more: Mapping[str, Any]) -> None:
        assert reason == "overlaps_evaluation" and more["file"] in names
        dropped[document.text] = detail

    evaluation = EvaluationTexts(DedupConfig(evaluation=tuple(names), **config), tmp_path / "scratch")
    kept = [d.text for d in evaluation.kept([Document.of(text, "s") for text in texts], drop)]
    evaluation.close()
    return kept, dropped, evaluation.report()


def _holds(words: list[str], run: list[str]) -> bool:
    return any(words[i : i + len(run)] == run for i in range(len(words) - len(run) + 1))


def test_documents_that_overlap_are_those_of_brute_force(tmp_path: Path):
    rng = random.Random(6)
    questions = [" ".join(rng.choices("abcdefghij", k=rng.randrange(1, 25))) for _ in range(40)]
    names = [_file(tmp_path / "a.jsonl", questions[:25]), _file(tmp_path / "b.jsonl", questions[25:])]
    texts = []
    for n in range(200):
        words = rng.choices("klmnop", k=20)
        of = questions[n % 40].split()
        start = rng.randrange(len(of))
        words[10:10] = of[start : start + rng.choice([3, 8, 12, 13, 25])] if n % 3 else of
        texts.append(", ".join(words).upper())
    texts += [question + "!" for question in questions[:12]]
    kept, dropped, report = _run(tmp_path, names, texts)

    def overlaps(text: str) -> bool:
        words = words_of(text)
        for question in map(str.split, questions):
            size = min(13, len(question))
            runs = [question[i : i + size] for i in range(len(question) - size + 1)]
            if any(_holds(words, r) for r in runs) if size >= 8 else words == question:
                return True
        return False

    assert kept == [text for text in texts if not overlaps(text)]
    assert 20 < len(kept) < len(texts) - 20
    assert (
        sum(row["documents_dropped"] for row in report["files"].values()) == report["dropped"] == len(texts) - len(kept)
    )
    for text, detail in dropped.items():
        name, _, run = detail.removeprefix("shares with ").partition(": ")
        assert _holds(words_of(text), run.split())
        own = questions[:25] if name == names[0] else questions[25:]
        assert any(_holds(q.split(), run.split()) for q in own)


def test_texts_of_scripts_without_spaces_are_found_within_documents(tmp_path: Path):
    question = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。"
    name = _file(tmp_path / "a.jsonl", [question])
    kept, dropped, _ = _run(tmp_path, [name], ["むかし" + question[4:25] + "とさ", "吾輩は犬である。名前はまだ無い。"])
    assert len(kept) == len(dropped) == 1


def test_a_text_that_is_not_unicode_is_compared_as_documents_are(tmp_path: Path):
    name = _file(tmp_path / "a.jsonl", ["one two three four five six seven \ud800 eight nine"])
    kept, dropped, _ = _run(tmp_path, [name], ["one two three four five six seven \ufffd eight nine"])
    assert not kept and len(dropped) == 1


@pytest.mark.parametrize("content", ["", '{"q": ""}\n', '{"q": "..."}\n{"n": 3}\n'])
def test_a_file_without_texts_stops_the_stage(tmp_path: Path, content: str):
    good = _file(tmp_path / "good.jsonl", ["a question of some kind"])
    (tmp_path / "bad.jsonl").write_text(content)
    with pytest.raises(DataError, match=r"bad\.jsonl holds no text"):
        _run(tmp_path, [good, str(tmp_path / "bad.jsonl")], [])


def test_a_broken_file_and_a_missing_one_stop_the_stage(tmp_path: Path):
    (tmp_path / "bad.jsonl").write_text('{"q": "a question"}\n{"q": ')
    with pytest.raises(DataError, match=r"bad\.jsonl cannot be read: line 2"):
        _run(tmp_path, [str(tmp_path / "bad.jsonl")], [])
    with pytest.raises(ConfigError, match="there is no file"):
        _run(tmp_path, [str(tmp_path / "gone.jsonl")], [])
