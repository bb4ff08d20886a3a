"""Building: what is new, changed, unchanged, moved and gone, from real files; and going on after a kill."""

from __future__ import annotations

import json

import pytest

from bloomery.core.errors import BloomeryError, ConfigError, DataError
from bloomery.corpus import CurateConfig
from bloomery.corpus.document import Document
from bloomery.retrieve import CutConfig, Index, IndexConfig, index, open_index


def told(report) -> tuple[int, int, int, int]:
    return report.added, report.changed, report.unchanged, report.deleted


def test_a_folder_again_and_again(tmp_path, embedder):
    folder, home = tmp_path / "docs", tmp_path / "home"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.md").write_text(f"# Title {name}\n\nText of {name} about iron.\n")
    config = IndexConfig(embedder="hashed")
    options = {"into": "docs", "workspace": home, "embedder": embedder}
    assert told(index(folder, config=config, **options)) == (3, 0, 0, 0)
    asked = embedder.asked
    assert told(index(folder, **options)) == (0, 0, 3, 0) and embedder.asked == asked
    (folder / "a.md").write_text("# Title a\n\nOther text of copper.\n")
    (folder / "b.md").unlink()
    (folder / "d.md").write_text("New.\n")
    report = index(folder, **options)
    assert told(report) == (1, 1, 1, 1) and embedder.asked == asked + 2
    assert json.loads(json.dumps(report.to_dict()))["chunks"] == 2
    with open_index("docs", workspace=home, embedder=embedder) as found:
        hit = found.search("copper", 1)[0]
        assert hit.chunk.heading == "Title a" and hit.chunk.text == "Other text of copper."
        assert len(found.documents()) == 3


def test_lines_that_move_stay(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"text": f"row {n} of iron", "year": n} for n in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"into": "rows", "workspace": tmp_path / "home", "reading": CurateConfig(metadata_fields=("year",))}
    assert told(index(path, **options)) == (4, 0, 0, 0)
    path.write_text("".join(json.dumps(row) + "\n" for row in [{"text": "new", "year": 9}, *rows[1:]]))
    report = index(path, **options)
    assert told(report) == (1, 0, 3, 1)
    with open_index("rows", workspace=tmp_path / "home") as found:
        assert [hit.chunk.text for hit in found.search("row", filters={"year": 2})] == ["row 2 of iron"]


def test_ids_and_titles_of_fields(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"_id": "7", "title": "Furnace", "text": "Hot."}\n{"_id": "7", "title": "", "text": "Again."}\n')
    config = IndexConfig(id_field="_id", cut=CutConfig(method="whole"))
    report = index(path, into="c", config=config, workspace=tmp_path / "home")
    assert report.added == 1 and report.problems == {"again": 1}
    with open_index("c", workspace=tmp_path / "home") as found:
        assert [(hit.chunk.document_id, hit.chunk.heading) for hit in found.search("furnace")] == [("7", "Furnace")]


def test_a_run_that_stops_goes_on(tmp_path, embedder):
    documents = [Document.of(f"text {n} of iron", f"{n}.txt") for n in range(1200)]

    def until_it_stops():
        for n, one in enumerate(documents):
            if n == 1000:
                raise KeyboardInterrupt
            yield one

    options = {"into": tmp_path / "i", "workspace": tmp_path, "embedder": embedder}
    config = IndexConfig(embedder="hashed")
    with pytest.raises(KeyboardInterrupt):
        index(until_it_stops(), config=config, **options)
    with Index(tmp_path / "i") as found:
        kept = found.counts()["documents"]
    assert 0 < kept < 1000
    report = index(documents, **options)
    assert told(report) == (1200 - kept, 0, kept, 0)


def test_another_config_is_refused(tmp_path, documents):
    index(documents, into="i", workspace=tmp_path)
    with pytest.raises(ConfigError, match="cut"):
        index(documents, into="i", workspace=tmp_path, config=IndexConfig(cut=CutConfig(size_tokens=50)))
    report = index(documents, into="i", workspace=tmp_path, config=IndexConfig(words="trigram"), fresh=True)
    assert report.added == 4


def test_a_file_that_breaks_keeps_what_it_held(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text("iron")
    (folder / "b.txt").write_text("coal")
    index(folder, into="i", workspace=tmp_path / "home")
    (folder / "a.txt").write_bytes(b"\x00\x01\x02" * 100)
    assert told(index(folder, into="i", workspace=tmp_path / "home")) == (0, 0, 1, 0)


def test_nothing_to_index(tmp_path):
    with pytest.raises(ConfigError, match="nothing"):
        index([], into="i", workspace=tmp_path)
    with pytest.raises(ConfigError, match="no such file"):
        index(tmp_path / "absent", into="i", workspace=tmp_path)


def test_a_field_that_is_misspelt_empties_no_index(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"body": f"row {n} of iron"}) + "\n" for n in range(3)))
    options = {"into": "rows", "workspace": tmp_path / "home"}
    assert told(index(path, reading=CurateConfig(text_field="body"), **options)) == (3, 0, 0, 0)
    with pytest.raises(DataError, match=r"no document could be read .* stays \(3 documents\)") as error:
        index(path, reading=CurateConfig(text_field="bodi"), **options)
    assert "there is: body" in error.value.hint
    with pytest.raises(DataError, match="no document could be read"):
        index(path, into="other", workspace=tmp_path / "home")
    assert not (tmp_path / "home" / "indexes" / "other").exists()
    with open_index("rows", workspace=tmp_path / "home") as found:
        assert len(found.documents()) == 3


def test_a_name_that_is_misspelt_removes_no_index(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("Of iron.\n")
    options = {"into": "texts", "workspace": tmp_path / "home"}
    index(path, **options)
    with pytest.raises(ConfigError, match="no such file"):
        index([path, tmp_path / "absent.txt"], fresh=True, **options)
    with open_index("texts", workspace=tmp_path / "home") as found:
        assert len(found.documents()) == 1
    assert told(index(path, fresh=True, **options)) == (1, 0, 0, 0)


def test_headings_of_pages_go_with_their_chunks(tmp_path):
    pytest.importorskip("resiliparse")
    (tmp_path / "iron.html").write_text(
        "<html><title>Iron</title><main><h1>Iron</h1><p>Smelted from ore.</p><h2>Bars</h2><p>Forged.</p></main></html>"
    )
    index(tmp_path / "iron.html", into="pages", workspace=tmp_path / "home")
    with open_index("pages", workspace=tmp_path / "home") as found:
        assert [(one.heading, one.text) for one in found.chunks()] == [
            ("Iron", "Smelted from ore."),
            ("Iron > Bars", "Forged."),
        ]


def test_a_first_index_that_fails_leaves_nothing(tmp_path, documents):
    home, config = tmp_path / "home", IndexConfig(embedder="no/such-embedder-anywhere")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for into in ("first", tmp_path / "by-path", tmp_path / "mine"):
        with pytest.raises(BloomeryError):
            index(documents, into=into, config=config, workspace=home)
    assert not (home / "indexes" / "first").exists() and not (tmp_path / "by-path").exists()
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]
    assert index(documents, into="first", workspace=home).added == 4  # and no config of it is in the way


def test_making_anew_reads_before_it_replaces(tmp_path, documents, embedder):
    options = {"into": "i", "workspace": tmp_path, "embedder": embedder, "config": IndexConfig(embedder="hashed")}
    index(documents, **options)

    def breaks():
        yield Document.of("something else", "e.txt")
        raise DataError("the source is broken")

    with pytest.raises(DataError, match="broken"):
        index(breaks(), fresh=True, **options)
    with open_index("i", workspace=tmp_path, embedder=embedder) as found:
        assert len(found.documents()) == 4 and found.search("charcoal")
        assert told(index(documents[:2], fresh=True, **options)) == (2, 0, 0, 0)
        assert {hit.chunk.document_id for hit in found.search("charcoal iron")} == {"a.txt", "b.txt"}


def test_vectors_of_other_weights_are_refused(tmp_path, documents, embedder):
    options = {"into": "i", "workspace": tmp_path, "config": IndexConfig(embedder="hashed")}
    index(documents, embedder=embedder, **options)
    other = type(embedder)(dimension=33)  # the config calls it the same
    with pytest.raises(ConfigError, match="hashed-words-32, and this embedder is hashed-words-33") as caught:
        index(documents, embedder=other, **options)
    assert "--fresh" in caught.value.hint
    assert index(documents, embedder=other, fresh=True, **options).added == 4
    with pytest.raises(ConfigError, match="other weights"):
        open_index("i", workspace=tmp_path, embedder=embedder)
