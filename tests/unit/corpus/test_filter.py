"""Filter: documents through a profile in a whole curation, with scores, reasons and lists."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from bloomery.core.artifact import Artifact
from bloomery.core.errors import DataError
from bloomery.core.workspace import Workspace
from bloomery.corpus import CurateConfig, FilterConfig, PersonalConfig, curate, curate_inputs, read_documents
from bloomery.corpus.scores import LINES_FILE, SCORES_FILE
from bloomery.corpus.shards import DROPPED_FILE, read_lines

PROSE = "The {0} of the house had seen the garden and the river. They have to be kept with care, said {0} to me."


def _made(seed: int, lines: int) -> str:
    """Lines of made words among common ones: nothing in them is said twice."""
    rng = random.Random(seed)

    def word() -> str:
        return "".join(rng.choice("bdfklmnprst") + rng.choice("aeiou") for _ in range(rng.randint(2, 4)))

    return "\n".join(
        f"The {word()} of {word()} {word()} and {word()} {word()} to {word()} {word()} that {word()} {word()}. "
        f"{word()} {word()} have {word()} {word()} with {word()} {word()} by {word()}."
        for _ in range(lines)
    )


def _texts(count: int) -> list[str]:
    return ["\n".join(PROSE.format(f"keeper{n}x{line}") for line in range(4)) for n in range(count)]


def _corpus(workspace: Workspace, path: Path, rows: list[dict[str, Any]], **config: Any) -> Artifact:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "metadata_fields": ("url",),
        "validation_fraction": 0.1,
        "test_fraction": 0.0,
        "decontaminate_words": 0,
        **config,
    }
    return curate(path, config=CurateConfig(**config), workspace=workspace)


def _kept(corpus: Artifact) -> list[Any]:
    return [d for split in ("train", "validation", "test") for d in read_documents(corpus, split)]


def test_every_drop_has_its_rule_score_and_threshold(workspace: Workspace, tmp_path: Path):
    rows = [{"text": text} for text in [*(_made(n, 4) for n in range(20)), _made(20, 1), "word " * 100]]
    corpus = _corpus(workspace, tmp_path / "a.jsonl", rows, filter=FilterConfig(profile="gopher"))
    dropped = list(read_lines(corpus.file(DROPPED_FILE)))
    assert [(row["reason"], row["score"], row["threshold"]) for row in dropped] == [
        ("gopher_min_words", 24.0, 50.0),
        ("gopher_top_2_words", dropped[1]["score"], 0.2),
    ]
    assert len(_kept(corpus)) == 20 and corpus.metrics["dropped"] == {"gopher_min_words": 1, "gopher_top_2_words": 1}
    scores = pq.read_table(corpus.path / SCORES_FILE).to_pylist()
    assert len(scores) == 22 and scores[20]["rule"] == "gopher_min_words" and scores[20]["gopher_min_words"] == 24.0
    assert not (corpus.path / LINES_FILE).exists()
    report = json.loads((corpus.path / "report.json").read_text())["filter"]
    assert report["documents_scored"] == 22
    assert next(r for r in report["rules"] if r["rule"] == "gopher_min_words")["documents_dropped"] == 1


def test_a_profile_that_leaves_nothing_says_which_rule_it_was(workspace: Workspace, tmp_path: Path):
    rows = [{"text": "word " * (n + 60)} for n in range(12)]
    with pytest.raises(DataError, match="12 of them by gopher_top_2_words"):
        _corpus(workspace, tmp_path / "a.jsonl", rows, filter=FilterConfig(profile="gopher"))


def test_lines_taken_are_counted_and_texts_get_their_new_id(workspace: Workspace, tmp_path: Path):
    rows = [{"text": text + "\nHome | About"} for text in _texts(12)]
    config = FilterConfig(profile="c4-tfds", rules={"c4_language": "off"})
    corpus = _corpus(workspace, tmp_path / "a.jsonl", rows, filter=config)
    kept = _kept(corpus)
    assert {d.text for d in kept} == set(_texts(12))
    rules = json.loads((corpus.path / "report.json").read_text())["filter"]["rules"]
    taken = next(r for r in rules if r["rule"] == "c4_terminal")
    assert (taken["lines_taken"], taken["characters_taken"]) == (12, 12 * len("Home | About"))
    ids = set(pq.read_table(corpus.path / SCORES_FILE).column("id").to_pylist())
    assert {d.id for d in kept} == ids


def test_a_corpus_without_a_profile_is_what_it_was(workspace: Workspace, tmp_path: Path):
    rows = [{"text": text} for text in _texts(20)]
    corpus = _corpus(workspace, tmp_path / "a.jsonl", rows)
    assert "filter" not in corpus.config and "personal" not in corpus.config
    report = json.loads((corpus.path / "report.json").read_text())
    assert set(report["config"]) == set(corpus.config) and "filter" not in report
    assert set(next(iter(_kept(corpus))).metadata) <= {"line", "url"}


def test_languages_are_metadata_and_a_rule(workspace: Workspace, tmp_path: Path):
    pytest.importorskip("py3langid")
    german = "Das Wetter war schön, und alle gingen nach der langen Sitzung gemeinsam an den Fluss und in den Garten."
    rows = [{"text": text} for text in [*_texts(12), german]]
    config = FilterConfig(
        profile="mc4", languages=("en",), rules={"mc4_third_longest_line": 10}, paragraph_languages=True
    )
    corpus = _corpus(workspace, tmp_path / "a.jsonl", rows, filter=config)
    assert all(d.metadata["language"] == "en" and d.metadata["paragraph_languages"] for d in _kept(corpus))
    assert [row["reason"] for row in read_lines(corpus.file(DROPPED_FILE))] == ["mc4_third_longest_line"]


def test_webtext_asks_the_table_of_links(workspace: Workspace, tmp_path: Path):
    (tmp_path / "links.csv").write_text("url,score\n" + "".join(f"http://www.a.org/{n}/,{n}\n" for n in range(12)))
    rows = [{"text": text, "url": f"https://a.org/{n}"} for n, text in enumerate(_texts(12))] + [{"text": "no url"}]
    config = FilterConfig(profile="webtext", links=str(tmp_path / "links.csv"))
    corpus = _corpus(workspace, tmp_path / "a.jsonl", rows, filter=config)
    assert sorted(int(d.metadata["url"].rsplit("/")[-1]) for d in _kept(corpus)) == list(range(3, 12))
    assert corpus.metrics["dropped"] == {"webtext_karma": 4}


def test_scores_of_another_model_are_joined_by_id(workspace: Workspace, tmp_path: Path):
    from bloomery.corpus import Document

    texts = _texts(14)
    ids = [Document.of(text, "").id for text in texts]
    (tmp_path / "s.csv").write_text("id,score\n" + "".join(f"{i},{n / 10}\n" for n, i in enumerate(ids[:-1])))
    config = FilterConfig(scores=str(tmp_path / "s.csv"), rules={"score": 0.35})
    corpus = _corpus(workspace, tmp_path / "a.jsonl", [{"text": t} for t in texts], filter=config)
    assert {d.text for d in _kept(corpus)} == set(texts[4:])  # the last has no score, and is kept


def test_lists_are_part_of_what_the_result_depends_on(tmp_path: Path):
    (tmp_path / "a.txt").write_text("text")
    keys = []
    for content in ("url,score\n", "url,score\na,1\n"):
        (tmp_path / "l.csv").write_text(content)
        config = CurateConfig(
            sources=(str(tmp_path / "a.txt"),), filter=FilterConfig(profile="webtext", links=str(tmp_path / "l.csv"))
        )
        keys.append(curate_inputs(config).key)
    assert keys[0] != keys[1]


def test_personal_data_goes_before_texts_are_compared(workspace: Workspace, tmp_path: Path):
    texts = _texts(12)
    rows = [{"text": f"{text} Mail a{n}@acme.io."} for n, text in enumerate(texts)]
    rows.append({"text": f"{texts[0]} Mail b@acme.io."})
    corpus = _corpus(workspace, tmp_path / "a.jsonl", rows, personal=PersonalConfig(email="mask"))
    assert all(d.text.endswith("Mail <email>.") for d in _kept(corpus))
    assert corpus.metrics["dropped"] == {"duplicate": 1}
    report = json.loads((corpus.path / "report.json").read_text())
    assert report["personal"] == {"email": {"action": "mask", "found": 13}}


def test_scores_name_the_documents_of_the_corpus_with_personal_data_masked_too(workspace: Workspace, tmp_path: Path):
    rows = [{"text": f"{text} Mail a{n}@acme.io."} for n, text in enumerate(_texts(12))]
    rows.append({"text": "word " * 100 + "Mail b@acme.io."})
    config = {
        "personal": PersonalConfig(email="mask"),
        "filter": FilterConfig(profile="c4-paper", rules={"c4_language": "off"}),
    }
    corpus = _corpus(workspace, tmp_path / "a.jsonl", rows, **config)
    scores = pq.read_table(corpus.path / SCORES_FILE).to_pylist()
    kept = [row["id"] for row in scores if not row["rule"]]
    assert len(kept) == 12 and set(kept) == {document.id for document in _kept(corpus)}
    dropped = [row["id"] for row in read_lines(corpus.file(DROPPED_FILE))]
    assert dropped == [row["id"] for row in scores if row["rule"]] and len(dropped) == 1
