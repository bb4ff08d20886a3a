"""A corpus of pictures: kept as they came, split by their content, duplicates and damage with their reason."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.corpus import PicturesConfig, curate_pictures, read_pictures
from bloomery.corpus.shards import DROPPED_FILE, read_lines

PIL = pytest.importorskip("PIL.Image")


def picture(seed: int, width: int = 10, height: int = 8) -> bytes:
    array = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.fromarray(array).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "pictures"
    place.mkdir()
    for n in range(60):
        (place / f"{n:03}.png").write_bytes(picture(n))
        (place / f"{n:03}.txt").write_text(f"caption {n % 7}")
    return place


def _made(folder, home, **options):
    config = PicturesConfig(validation_fraction=0.2, test_fraction=0.2, **options)
    return curate_pictures(folder, config=config, workspace=home)


def test_pictures_come_back_as_they_were(folder, tmp_path):
    made = _made(folder, tmp_path / "home")
    found = {split: list(read_pictures(made, split)) for split in ("train", "validation", "test")}
    assert {split: len(rows) for split, rows in found.items()} == made.metrics["pictures"]
    assert sum(made.metrics["pictures"].values()) == 60 and all(made.metrics["pictures"].values())
    everything = {one.data: one for rows in found.values() for one in rows}
    assert set(everything) == {picture(n) for n in range(60)}
    one = everything[picture(12)]
    assert (one.caption, one.text, one.width, one.height) == ("caption 5", "caption 5", 10, 8)
    assert one.pixels(4).shape == (4, 4, 3) and one.source.endswith("012.png")
    assert made.metrics["captions"]["train"] == 7
    again = _made(folder, tmp_path / "other")
    assert again.id == made.id


def test_equal_pictures_are_in_one_split_and_pairs_come_once(folder, tmp_path):
    (folder / "copy.png").write_bytes(picture(3))
    (folder / "copy.txt").write_text("another caption")
    (folder / "twin.png").write_bytes(picture(4))
    (folder / "twin.txt").write_text("caption 4")
    made = _made(folder, tmp_path / "home")
    assert made.metrics["dropped"] == {"duplicate": 1}
    places = [
        split for split in ("train", "validation", "test") for p in read_pictures(made, split) if p.data == picture(3)
    ]
    assert len(places) == 2 and len(set(places)) == 1


def test_damage_has_its_reason(folder, tmp_path):
    (folder / "bad.png").write_bytes(picture(5)[:50])
    (folder / "bad.txt").write_text("x")
    (folder / "large.png").write_bytes(picture(99, 60, 60))
    (folder / "large.txt").write_text("x")
    made = _made(folder, tmp_path / "home", max_pixels=1000)
    assert made.metrics["dropped"] == {"damaged": 2}
    rows = list(read_lines(made.path / DROPPED_FILE))
    assert {row["reason"] for row in rows} == {"damaged"} and any("too large" in row["detail"] for row in rows)
    assert json.loads((made.path / "report.json").read_text())["dropped"] == {"damaged": 2}


def test_a_text_is_no_picture(folder, tmp_path):
    """Neither one that is named, nor what a pattern finds beside pictures."""
    notes = tmp_path / "notes.md"
    notes.write_text("iron")
    with pytest.raises(DataError, match="no picture \\(neither by its name") as caught:
        curate_pictures(notes, workspace=tmp_path / "home")
    assert "folders of pictures" in caught.value.hint
    made = curate_pictures([f"{folder}/*", notes], workspace=tmp_path / "home")
    assert sum(made.metrics["pictures"].values()) == 60 and made.metrics["dropped"] == {}
    assert made.metrics["problems"] == 1


def test_every_picture_in_another_split(folder, tmp_path):
    config = PicturesConfig(validation_fraction=0.5, test_fraction=0.4)
    for one in sorted(folder.glob("*.png"))[1:]:
        one.unlink()
    seeds = iter(range(100, 200))
    with pytest.raises(DataError, match="validation and test have all 1") as caught:
        while True:  # a picture that falls to training is another one's turn
            (folder / "000.png").write_bytes(picture(next(seeds)))
            curate_pictures(folder, config=config, workspace=tmp_path / "home")
    assert "validation_fraction=0" in caught.value.hint


def test_small_shards(folder, tmp_path):
    made = _made(folder, tmp_path / "home", shard_bytes=1024)
    assert len(list(made.path.glob("train-*.parquet"))) >= 1
    assert sum(1 for split in ("train", "validation", "test") for _ in read_pictures(made, split)) == 60


def test_mistakes(folder, tmp_path):
    made = _made(folder, tmp_path / "home")
    with pytest.raises(ConfigError, match="no split"):
        list(read_pictures(made, "dev"))
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "x.png").write_bytes(picture(1))
    with pytest.raises(DataError, match="no picture is left") as caught:
        _made(empty, tmp_path / "home")
    assert "pictures.captions=folder" in caught.value.hint
    for names, said, hint in (
        ({"x.png": picture(2), "x.jsonl": b'{"image": "x.png"}\n'}, "no caption", "caption_field"),
        ({"x.jsonl": b'{"picture": "x.png", "caption": "x"}\n'}, "no image", "image_field"),
        ({"x.jsonl": b'{"image": "../x.png", "caption": "x"}\n'}, "outside the folder", "image_root"),
        ({"x.png": picture(1)[:60], "x.txt": b"x"}, "x.png", "PNG, JPEG"),
    ):
        place = tmp_path / hint.split(",")[0]
        place.mkdir()
        for name, data in names.items():
            (place / name).write_bytes(data)
        with pytest.raises(DataError, match=said) as caught:
            _made(place, tmp_path / "home")
        assert hint in caught.value.hint and "\n" not in caught.value.one_line()
    with pytest.raises(ConfigError, match="is empty"):
        curate_pictures(config=PicturesConfig(), workspace=tmp_path / "home")
    path = next(made.path.glob("train-*.parquet"))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="no shard of pictures"):
        list(read_pictures(made, "train"))


def test_the_hint_is_not_the_option_that_was_given(tmp_path):
    (tmp_path / "x.png").write_bytes(picture(1))
    rows = tmp_path / "x.jsonl"
    rows.write_bytes(b'{"image": "x.png"}\n')
    config = PicturesConfig(captions="folder", sources=(str(rows),))
    with pytest.raises(DataError, match="no picture is left") as caught:
        curate_pictures(config=config, workspace=tmp_path / "home")
    assert "captions=folder" not in caught.value.hint and "caption_field" in caught.value.hint


def test_two_questions_may_have_one_answer(tmp_path):
    (tmp_path / "x.png").write_bytes(picture(1))
    rows = [{"image": "x.png", "caption": "yes", "question": text} for text in ("red?", "round?", "red?")]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"sources": (str(tmp_path),), "validation_fraction": 0, "test_fraction": 0}
    config = PicturesConfig(**options, metadata_fields=("question",))
    made = curate_pictures(config=config, workspace=tmp_path / "home")
    assert [one.metadata["question"] for one in read_pictures(made, "train")] == ["red?", "round?"]
