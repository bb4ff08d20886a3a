"""Pictures with captions out of folders, tar shards, JSONL and Parquet; hostile ones are told and left out."""

from __future__ import annotations

import io
import json
import random
import tarfile

import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.corpus.picture_sources import PicturesConfig, picture_files, read_picture_sources
from bloomery.corpus.problems import Problems

DATA = b"\x89PNG not decoded here"


def _read(path, **options) -> tuple[list[tuple[str, str]], dict[str, int]]:
    config, problems = PicturesConfig(sources=(str(path),), **options), Problems()
    found = [(one.caption, one.data.decode("latin-1")) for one in read_picture_sources(config, problems)]
    return found, dict(problems.counts)


def _tar(path, members: list[tuple[str, bytes]], mode: str = "w") -> None:
    with tarfile.open(path, mode) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_folders(tmp_path):
    for name in ("cats/one.png", "cats/two_small.jpg", "dogs/three.PNG", ".hidden/four.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(DATA + name.encode())
    (tmp_path / "cats/one.txt").write_text("  a cat\n")
    (tmp_path / "dogs/three.json").write_text(json.dumps({"caption": "a dog", "kind": 3}))
    found, problems = _read(tmp_path)
    assert [caption for caption, _ in found] == ["a cat", "a dog"] and problems == {"no_caption": 1}
    assert [caption for caption, _ in _read(tmp_path, captions="folder")[0]] == ["cats", "cats", "dogs"]
    assert [caption for caption, _ in _read(tmp_path, captions="name")[0]] == ["one", "two small", "three"]
    config = PicturesConfig(sources=(str(tmp_path),), metadata_fields=("kind",))
    assert [one.metadata for one in read_picture_sources(config, Problems())] == [{}, {"kind": 3}]


@pytest.mark.parametrize(
    ("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar.xz", "w:xz")]
)
def test_tar_shards(tmp_path, name, mode):
    members = [("d/1.png", b"one"), ("d/1.txt", b"first"), ("d/2.json", b'{"text": "second"}'), ("d/2.jpg", b"two")]
    _tar(tmp_path / name, [*members, ("d/3.png", b"three"), ("d/note.md", b"?")], mode)
    found, problems = _read(tmp_path / name)
    assert found == [("first", "one"), ("second", "two")] and problems == {"no_caption": 1}
    assert _read(tmp_path / name, captions="folder")[0] == [("d", "one"), ("d", "two"), ("d", "three")]


def test_hostile_tar_members(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in (
            ("link.png", tarfile.SYMTYPE),
            ("hard.png", tarfile.LNKTYPE),
            ("pipe.png", tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        for name in ("/abs.png", "../up.png", "good.png"):
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
        big = tarfile.TarInfo("big.png")
        big.size = 5000
        tar.addfile(big, io.BytesIO(b"\0" * 5000))
    found, problems = _read(path, captions="name", max_image_bytes=1000)
    assert found == [("good", "abc")]
    assert problems == {"not_a_plain_member": 5, "image_too_large": 1}


def test_a_bomb_and_a_cut_shard(tmp_path):
    _tar(tmp_path / "bomb.tar.gz", [("1.png", b"one"), ("2.bin", b"\0" * (70 << 20))], "w:gz")
    found, problems = _read(tmp_path / "bomb.tar.gz", captions="name", max_expansion=1)
    assert found == [("1", "one")] and problems == {"decompression_bomb": 1}
    _tar(tmp_path / "a.tar", [("1.png", b"one" * 400), ("2.png", b"two" * 400)])
    cut = (tmp_path / "a.tar").read_bytes()[:2300]
    (tmp_path / "cut.tar").write_bytes(cut)
    found, problems = _read(tmp_path / "cut.tar", captions="name")
    assert found == [("1", "one" * 400)] and sum(problems.values()) == 1


def test_jsonl_with_paths(tmp_path):
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics/1.png").write_bytes(b"one")
    (tmp_path.parent / "outside.png").write_bytes(b"secret")
    (tmp_path / "pics/link.png").symlink_to(tmp_path.parent / "outside.png")
    rows = [
        {"image": "1.png", "caption": "first", "x": 1},
        {"file_name": "1.png", "label": 7},
        {"image": "../../outside.png", "caption": "no"},
        {"image": "/etc/passwd", "caption": "no"},
        {"image": "link.png", "caption": "no"},
        {"image": "missing.png", "caption": "no"},
        {"caption": "no picture"},
        {"image": "1.png"},
        [1],
    ]
    text = "\n".join(json.dumps(row) for row in rows) + '\n{"image": \n\n'
    (tmp_path / "rows.jsonl").write_text(text)
    found, problems = _read(tmp_path / "rows.jsonl", image_root="pics")
    assert found == [("first", "one"), ("7", "one")]
    expected = {"outside_the_folder": 3, "unreadable": 1, "no_image": 2, "no_caption": 1, "broken_json": 1}
    assert problems == expected
    # A folder that lists its pictures is read by its list; the files would come twice.
    assert len(_read(tmp_path, image_root="pics")[0]) == 2


def test_parquet_bytes_structs_and_paths(tmp_path):
    import pyarrow
    from pyarrow.parquet import write_table

    (tmp_path / "1.png").write_bytes(b"one")
    images = [{"bytes": b"two", "path": None}, {"bytes": None, "path": "1.png"}, {"bytes": None, "path": "../x.png"}]
    write_table(pyarrow.table({"image": images, "text": ["a", "b", "c"]}), tmp_path / "a.parquet")
    found, problems = _read(tmp_path / "a.parquet")
    assert found == [("a", "two"), ("b", "one")] and problems == {"no_image": 1}
    write_table(pyarrow.table({"image": [b"raw"], "caption": ["d"]}), tmp_path / "b.parquet")
    assert _read(tmp_path / "b.parquet")[0] == [("d", "raw")]
    (tmp_path / "c.parquet").write_bytes(b"PAR1 no")
    assert _read(tmp_path / "c.parquet") == ([], {"damaged": 1})


def test_mutated_shards_and_lists_are_problems_never_tracebacks(tmp_path):
    rng = random.Random(0)
    (tmp_path / "1.png").write_bytes(b"one")
    _tar(tmp_path / "a.tar.gz", [("1.png", b"one"), ("1.txt", b"first"), ("2.png", b"two")], "w:gz")
    _tar(tmp_path / "b.tar", [("1.png", b"one"), ("1.txt", b"first"), ("2.png", b"two")])
    (tmp_path / "c.jsonl").write_text('{"image": "1.png", "caption": "first"}\n' * 3)
    for name in ("a.tar.gz", "b.tar", "c.jsonl"):
        whole = (tmp_path / name).read_bytes()
        for _ in range(120):
            data = bytearray(whole)
            for _ in range(rng.randrange(1, 20)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            (tmp_path / f"m-{name}").write_bytes(bytes(data[: rng.randrange(1, len(data) + 1)]))
            found, problems = _read(tmp_path / f"m-{name}")
            assert len(found) <= 3 and all(caption.strip() for caption, _ in found) and all(problems.values())


def test_mistakes(tmp_path):
    with pytest.raises(ConfigError, match="holds no picture"):
        list(picture_files(str(tmp_path)))
    with pytest.raises(ConfigError, match="no such file"):
        list(picture_files(str(tmp_path / "none")))
    (tmp_path / "1.png").write_bytes(b"x")
    with pytest.raises(DataError, match="no caption"):
        config = PicturesConfig(sources=(str(tmp_path),), strict=True)
        list(read_picture_sources(config, Problems(strict=True)))
    with pytest.raises(ConfigError, match="max_pixels"):
        PicturesConfig(max_pixels=0)


def test_names_win_over_lists_that_lie_among_the_pictures(tmp_path):
    for name in ("cats/one.png", "dogs/two.png"):
        path = tmp_path / name
        path.parent.mkdir()
        path.write_bytes(DATA + name.encode())
    (tmp_path / "captions.jsonl").write_text(json.dumps({"image": "cats/one.png", "caption": "a cat"}) + "\n")
    config, notes = PicturesConfig(sources=(str(tmp_path),), captions="folder"), []
    found = list(read_picture_sources(config, Problems(), notes.append))
    assert [one.caption for one in found] == ["cats", "dogs"]
    assert len(notes) == 1 and "captions.jsonl is not read" in notes[0]
    assert [caption for caption, _ in _read(tmp_path)[0]] == ["a cat"]  # as texts, the list is what is meant
