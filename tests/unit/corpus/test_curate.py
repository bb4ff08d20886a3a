"""curate: the whole stage on small corpora, in a workspace of its own."""

from __future__ import annotations

import hashlib
import json
import lzma
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.artifact import Artifact
from bloomery.core.config import from_dict
from bloomery.core.errors import BloomeryError, ConfigError, DataError
from bloomery.core.events import Event
from bloomery.core.workspace import Workspace
from bloomery.corpus import CurateConfig, FilterConfig, PersonalConfig, curate, curate_inputs, read_documents
from bloomery.corpus.decontaminate import HeldOutRuns
from bloomery.corpus.shards import DROPPED_FILE, read_lines
from bloomery.corpus.split import SPLITS


def _texts(corpus: Artifact) -> dict[str, list[str]]:
    return {split: [d.text for d in read_documents(corpus, split)] for split in SPLITS}


@pytest.fixture(scope="module")
def paragraphs(shared_data: Path) -> list[str]:
    text = lzma.decompress((shared_data / "text" / "gatsby.txt.xz").read_bytes()).decode()
    return [p for p in text.split("\n\n") if p.strip()]


def _jsonl(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def test_counts_splits_and_reasons_agree_with_plain_sets(workspace: Workspace, tmp_path: Path, paragraphs: list[str]):
    copies = [
        *paragraphs[:40],
        *(p.replace("\n", "\r\n") for p in paragraphs[40:60]),
        *(p + " \n" for p in paragraphs[60:80]),
    ]
    texts = [*paragraphs, *copies, "", " \n"]
    config = CurateConfig(decontaminate_words=5, validation_fraction=0.2, test_fraction=0.2)
    corpus = curate(_jsonl(tmp_path / "a.jsonl", texts), config=config, workspace=workspace)

    def share(text: str) -> float:
        return int(hashlib.sha256((text.replace("\r\n", "\n").rstrip() + "\n").encode()).hexdigest()[:16], 16) / 2**64

    def runs(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text.casefold())
        return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}

    first: dict[str, str] = {}
    for paragraph in paragraphs:
        first.setdefault(paragraph.replace("\r\n", "\n").rstrip(), paragraph)
    unique = list(first.values())
    test = [p for p in unique if share(p) < 0.2]
    of_test = set().union(*map(runs, test))
    validation = [p for p in unique if 0.2 <= share(p) < 0.4 and not runs(p) & of_test]
    of_validation = set().union(*map(runs, validation))
    candidates = [p for p in unique if share(p) >= 0.4]
    train = [p for p in candidates if not runs(p) & (of_test | of_validation)]
    assert _texts(corpus) == {"train": train, "validation": validation, "test": test}
    metrics = corpus.metrics
    assert metrics["documents"] == {"train": len(train), "validation": len(validation), "test": len(test)}
    assert metrics["text_bytes"]["train"] == sum(len(p.encode()) for p in train)
    dropped = list(read_lines(corpus.file(DROPPED_FILE)))
    assert metrics["dropped"]["duplicate"] == len(texts) - 2 - len(unique)
    assert metrics["dropped"]["empty"] == 2
    assert sum(metrics["dropped"].values()) == len(dropped) == len(texts) - len(train) - len(validation) - len(test)
    overlap = next(row for row in dropped if row["reason"] == "overlaps_test")
    assert tuple(overlap["detail"].removeprefix("shares: ").split()) in of_test
    assert set(metrics) == {"documents", "text_bytes", "dropped", "problems"}


def test_which_of_two_copies_is_read_first_does_not_move_the_split(
    workspace: Workspace, tmp_path: Path, paragraphs: list[str]
):
    config = CurateConfig(decontaminate_words=0)
    saved_elsewhere = [p.replace("\r\n", "\n").replace("\n", "\r\n") + "\r\n" for p in paragraphs]
    orders = [[*paragraphs, *saved_elsewhere], [*saved_elsewhere, *paragraphs]]
    found = [
        _texts(curate(_jsonl(tmp_path / "a.jsonl", order), config=config, workspace=workspace)) for order in orders
    ]
    plain = [{split: {" ".join(t.split()) for t in texts} for split, texts in each.items()} for each in found]
    assert plain[0] == plain[1]
    assert all(plain[0].values())


def test_a_file_whose_name_is_not_utf8_is_read(workspace: Workspace, tmp_path: Path, paragraphs: list[str]):
    folder = tmp_path / "docs"
    folder.mkdir()
    try:
        _jsonl(folder / "n\udcff.jsonl", paragraphs)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with (folder / "n\udcff.jsonl").open("a") as stream:
        stream.write("{broken\n")
    corpus = curate(folder, workspace=workspace)
    assert {d.source for d in read_documents(corpus, "train")} == {f"{folder}/n\ufffd.jsonl"}
    report = json.loads(corpus.file("report.json").read_text(encoding="utf-8"))
    assert report["first_problems"][0]["where"] == f"{folder}/n\ufffd.jsonl, line {len(paragraphs) + 1}"


def test_documents_stay_in_their_split_when_others_are_added(
    workspace: Workspace, tmp_path: Path, paragraphs: list[str]
):
    config = CurateConfig(decontaminate_words=0)
    few = _texts(curate(_jsonl(tmp_path / "a.jsonl", paragraphs[::2]), config=config, workspace=workspace))
    many = _texts(curate(_jsonl(tmp_path / "a.jsonl", paragraphs), config=config, workspace=workspace))
    for split in SPLITS:
        assert set(few[split]) <= set(many[split])


def test_the_same_sources_give_the_same_bytes_and_are_reused(
    workspace: Workspace, tmp_path: Path, paragraphs: list[str]
):
    source = _jsonl(tmp_path / "a.jsonl", paragraphs)
    first = curate(str(source), workspace=workspace)
    assert curate([source], workspace=workspace).manifest["run"] == first.manifest["run"]
    assert curate(source, workspace=tmp_path / "other").id == first.id
    again = curate(source, workspace=workspace, fresh=True)
    assert again.id == first.id
    assert (
        curate_inputs(CurateConfig(sources=(str(source),))).key
        == curate_inputs(CurateConfig(sources=(str(source),))).key
    )
    _jsonl(source, paragraphs[1:])
    assert curate(source, workspace=workspace).id != first.id


def test_position_is_nanogpts_split(workspace: Workspace, shared_data: Path):
    path = shared_data / "text" / "tinyshakespeare.txt.xz"
    corpus = curate(path, config=CurateConfig(split="position"), workspace=workspace)
    data = lzma.decompress(path.read_bytes()).decode()
    texts = {split: "".join(parts) for split, parts in _texts(corpus).items()}
    assert texts == {"train": data[: int(len(data) * 0.9)], "validation": data[int(len(data) * 0.9) :], "test": ""}
    assert [len(texts[split]) for split in ("train", "validation")] == [1_003_854, 111_540]


def test_shards_rotate(workspace: Workspace, tmp_path: Path, paragraphs: list[str]):
    config = CurateConfig(shard_bytes=20_000, decontaminate_words=0)
    corpus = curate(_jsonl(tmp_path / "a.jsonl", paragraphs), config=config, workspace=workspace)
    assert len(corpus.files("train-*.jsonl.zst")) > 5
    assert len(_texts(corpus)["train"]) == corpus.metrics["documents"]["train"]


def test_problems_are_reported_or_with_strict_fatal(workspace: Workspace, tmp_path: Path, paragraphs: list[str]):
    source = _jsonl(tmp_path / "a.jsonl", paragraphs)
    with source.open("a") as stream:
        stream.write("{broken\n" * 150)
    corpus = curate(source, workspace=workspace)
    report = json.loads(corpus.file("report.json").read_text())
    assert corpus.metrics["problems"] == 150
    assert report["problem_counts"] == {"broken_json": 150}
    assert len(report["first_problems"]) == 100
    assert report["first_problems"][0]["where"] == f"{source}, line {len(paragraphs) + 1}"
    with pytest.raises(DataError, match=rf"line {len(paragraphs) + 1}: broken json"):
        curate(source, config=CurateConfig(strict=True), workspace=workspace)
    assert not list(workspace.scratch.glob("*/output/manifest.json"))


@pytest.mark.parametrize(
    ("content", "config", "error"),
    [
        (None, {}, ConfigError),
        (b"", {}, DataError),
        (b"\x00\x01binary", {}, DataError),
        (b"\xe9\xe8 latin", {}, DataError),
        (b"all of it is held out", {"validation_fraction": 0.5, "test_fraction": 0.4}, DataError),
    ],
)
def test_what_gives_no_corpus_is_one_clear_line(
    workspace: Workspace, tmp_path: Path, content: bytes | None, config: dict[str, Any], error: type[BloomeryError]
):
    source = tmp_path / "source.txt"
    if content is not None:
        source.write_bytes(content)
    if content and content.startswith(b"all"):
        source.write_bytes(next(b"%d" % n for n in range(99) if hashlib.sha256(b"%d" % n).digest()[0] < 128))
    with pytest.raises(error) as caught:
        curate(source, config=CurateConfig(**config), workspace=workspace)
    assert caught.value.hint
    assert "\n" not in caught.value.one_line()
    assert list(workspace.artifacts.iterdir()) == []


def test_why_nothing_is_left_is_said_with_the_first_of_it_and_what_helps(workspace: Workspace, tmp_path: Path):
    (tmp_path / "a.warc").write_bytes(b"no record " * 100)
    with pytest.raises(
        DataError, match=r"1 taken out, 1 of them by not_a_record, the first .*a\.warc, offset 0"
    ) as caught:
        curate(tmp_path / "a.warc", workspace=workspace)
    assert "inspect source" in caught.value.hint
    (tmp_path / "b.txt").write_text("too short")
    filtered = CurateConfig(filter=FilterConfig(profile="gopher"))
    with pytest.raises(DataError, match=r"by gopher_top_2_words, the first .*b\.txt") as caught:
        curate(tmp_path / "b.txt", config=filtered, workspace=workspace)
    assert "rules.NAME" in caught.value.hint
    (tmp_path / "c.jsonl").write_text('{"text": "mail to jane.doe@gmail.com"}\n')
    with pytest.raises(DataError, match=r"by personal_data, the first .*c\.jsonl") as caught:
        curate(tmp_path / "c.jsonl", config=CurateConfig(personal=PersonalConfig(all="drop")), workspace=workspace)
    assert "mask" in caught.value.hint
    rows = ['{"text": "the same"}\n'] * 9 + ['{"text": \n']
    (tmp_path / "d.jsonl").write_text("".join(rows))
    held_out = CurateConfig(validation_fraction=0.5, test_fraction=0.4)
    with pytest.raises(DataError, match="1 went to validation and test, 8 taken out, 8 of them by duplicate; the"):
        for n in range(30):  # until the split of the one text is not training
            (tmp_path / "d.jsonl").write_text("".join(rows).replace("same", f"same {n}"))
            curate(tmp_path / "d.jsonl", config=held_out, workspace=workspace)


def test_progress_and_phases_are_told(tmp_path: Path, paragraphs: list[str], monkeypatch: pytest.MonkeyPatch):
    # The package shows the function under the name of its module.
    monkeypatch.setattr(sys.modules["bloomery.corpus.curate"], "_PROGRESS_SECONDS", 0.0)
    events: list[Event] = []
    workspace = Workspace(tmp_path / "home", listeners=[events.append])
    curate(_jsonl(tmp_path / "a.jsonl", paragraphs), workspace=workspace)
    assert [e.data["name"] for e in events if e.kind == "phase"] == ["read", "decontaminate"]
    last = [e for e in events if e.kind == "progress" and e.data["phase"] == "read"][-1]
    assert (last.data["done"], last.data["unit"]) == (len(paragraphs), "documents")
    assert last.data["live"]["megabytes_per_second"] > 0
    events.clear()
    filtered = CurateConfig(filter=FilterConfig(profile="c4-paper", rules={"c4_sentences": 2}))
    corpus = curate(tmp_path / "a.jsonl", config=filtered, workspace=workspace)
    last = [e for e in events if e.kind == "progress" and e.data["phase"] == "read"][-1]
    assert last.data["done"] == len(paragraphs) and last.data["live"] == {
        "kept": len(paragraphs) - sum(n for reason, n in corpus.metrics["dropped"].items() if reason.startswith("c4_"))
    }


def test_an_interrupted_attempt_leaves_nothing_in_the_way(
    workspace: Workspace, tmp_path: Path, paragraphs: list[str], monkeypatch: pytest.MonkeyPatch
):
    def interrupt(self: HeldOutRuns) -> int:
        raise KeyboardInterrupt

    source = _jsonl(tmp_path / "a.jsonl", paragraphs)
    with monkeypatch.context() as patch:
        patch.setattr(HeldOutRuns, "seal", interrupt)
        with pytest.raises(KeyboardInterrupt):
            curate(source, workspace=workspace)
    assert curate(source, workspace=workspace).id == curate(source, workspace=tmp_path / "other").id


def test_one_long_text_is_cut_so_that_every_split_has_some(tmp_path: Path) -> None:
    import random

    from bloomery.core.workspace import Workspace

    rng = random.Random(5)
    paragraphs = [" ".join(f"word{rng.randrange(500)}" for _ in range(40)) for _ in range(400)]
    (tmp_path / "book.txt").write_text("\n\n".join(paragraphs))
    notes: list[str] = []
    workspace = Workspace(
        tmp_path / "home", listeners=[lambda e: notes.append(e.data["text"]) if e.kind == "note" else None]
    )
    made = curate(tmp_path / "book.txt", workspace=workspace)
    assert any("only 1 documents: cut at blank lines" in note for note in notes)
    assert min(made.metrics["documents"].values()) > 0
    assert sum(made.metrics["documents"].values()) > 20


def test_an_empty_source_is_an_unset_variable(tmp_path: Path) -> None:
    import pytest

    from bloomery.core.errors import ConfigError

    with pytest.raises(ConfigError, match="a source is empty"):
        curate("", workspace=tmp_path)


def _ended_after(monkeypatch: pytest.MonkeyPatch, documents: int) -> None:
    """Curation ends when it has seen so many documents; forever again, if that is 0."""
    from bloomery.corpus.dedup import SeenDigests

    add, seen = SeenDigests.add, []

    def counted(self: SeenDigests, digest: bytes) -> bool:
        seen.append(digest)
        if len(seen) == documents:
            raise KeyboardInterrupt
        return add(self, digest)

    monkeypatch.setattr(SeenDigests, "add", counted)


def _as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources are read as large ones are, in pieces of a few lines."""
    from bloomery.corpus import reading_log, reading_plan, sources

    monkeypatch.setattr(sources, "_POOL_BYTES", 0)
    monkeypatch.setattr(reading_plan, "LINE_BYTES", 20_000)
    monkeypatch.setattr(reading_log, "_PIECE_BYTES", 1)


def test_a_run_that_was_ended_goes_on_from_what_was_read(
    tmp_path: Path, paragraphs: list[str], monkeypatch: pytest.MonkeyPatch
):
    path = _jsonl(tmp_path / "a.jsonl", paragraphs)
    straight = curate(path, workspace=tmp_path / "straight")
    _as_large(monkeypatch)
    workspace = Workspace(tmp_path / "ended")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        _ended_after(patch, 600)
        curate(path, workspace=workspace, workers=1)
    (scratch,) = workspace.scratch.glob("curate-*/")
    pieces = sorted(scratch.glob("cut-0/read-0000/*.zst"))
    assert len(pieces) > 1
    before = [piece.stat().st_mtime_ns for piece in pieces]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        _ended_after(patch, 700)
        curate(path, workspace=workspace, workers=1)
    assert [piece.stat().st_mtime_ns for piece in pieces] == before
    assert curate(path, workspace=workspace, workers=1).id == straight.id
    assert not list(workspace.scratch.glob("curate-*/"))


def test_what_was_read_of_sources_that_changed_or_are_to_be_read_afresh_goes(
    workspace: Workspace, tmp_path: Path, paragraphs: list[str], monkeypatch: pytest.MonkeyPatch
):
    _as_large(monkeypatch)
    path = _jsonl(tmp_path / "a.jsonl", paragraphs)
    folders = []
    for fresh in (False, True):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            _ended_after(patch, 500)
            curate(path, workspace=workspace, workers=1)
        (scratch,) = workspace.scratch.glob("curate-*/")
        folders.append(scratch)
        if not fresh:
            path = _jsonl(tmp_path / "a.jsonl", [*paragraphs[:-1], "Another end."])
    assert folders[0] != folders[1] and not folders[0].exists()
    (folders[1] / "cut-0" / "read-0000" / "000000-0000000000000000.jsonl.zst").write_bytes(b"not read")
    corpus = curate(path, workspace=workspace, workers=1, fresh=True)
    assert "Another end." in [text for texts in _texts(corpus).values() for text in texts]


def test_the_engine_is_no_part_of_what_a_corpus_is():
    assert curate_inputs(CurateConfig(engine="ray")).key == curate_inputs(CurateConfig()).key
    with pytest.raises(ConfigError, match="engine"):
        from_dict(CurateConfig, {"engine": "spark"})
