"""Reader worker: what it says, in which order, and what it passes over when a page is refused from outside."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.config import to_dict
from bloomery.corpus.config import CurateConfig
from bloomery.corpus.reader_process import LENGTH
from bloomery.corpus.reader_worker import _Output, work
from bloomery.corpus.record import Record

SAMPLE = "web/warc/dolma_sample-0001.warc.gz"


def _work(
    path: Path,
    *,
    resume: int = 0,
    refused: list[str] | None = None,
    config: CurateConfig | None = None,
    **more: Any,
) -> list[list[Any]]:
    stream = io.BytesIO()
    span = {"start": 0, "stop": None, "sure": True, "lines": 0, "quotes": 0}
    task = {"path": str(path), "kind": "", "metadata": {}, "config": to_dict(config or CurateConfig()), "span": span}
    work({**task, "resume": resume, "refused": refused, **more}, _Output(stream))
    data, frames = stream.getvalue(), []
    while data:
        size = LENGTH.unpack_from(data)[0]
        frames.append(json.loads(data[LENGTH.size : LENGTH.size + size]))
        data = data[LENGTH.size + size :]
    return frames


@pytest.fixture(scope="module")
def frames(shared_data: Path) -> list[list[Any]]:
    return _work(shared_data / SAMPLE)


def _items(frames: list[list[Any]]) -> list[Record]:
    return [Record(*row) for frame in frames if frame[0] == "items" for row in frame[1]]


def test_everything_is_sent_before_a_page_is_taken_apart(frames: list[list[Any]]):
    kinds = [frame[0] for frame in frames]
    assert (kinds[0], kinds[-1]) == ("begin", "done")
    numbers = [frame[2] for frame in frames if frame[0] == "extracting"]
    assert numbers == list(range(len(numbers)))
    for place, frame in enumerate(frames):
        if frame[0] == "extracting":
            assert len(_items(frames[:place])) == frame[2]  # each record is one item
    assert sum(item.kind == "document" for item in _items(frames)) == 17


@pytest.mark.parametrize("resume", [0, 1, 5])
def test_it_goes_on_where_it_was(shared_data: Path, frames: list[list[Any]], resume: int):
    assert _items(_work(shared_data / SAMPLE, resume=resume)) == _items(frames)[resume:]


def test_a_page_that_is_refused_from_outside_is_not_tried(shared_data: Path, frames: list[list[Any]]):
    found = _items(_work(shared_data / SAMPLE, resume=2, refused=["extraction_timeout", "too slow"]))
    assert [(item.kind, item.reason) for item in found[:2]] == [
        ("problem", "extraction_timeout"),
        ("refused", "extraction_timeout"),
    ]
    assert found[0].source == next(frame[1] for frame in frames if frame[0] == "extracting" and frame[2] == 2)
    assert [replace(item, item=0) for item in found[2:]] == [replace(item, item=0) for item in _items(frames)[3:]]


def test_items_that_were_had_before_are_passed_over_and_the_others_go_through_the_stages(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"{n} " * 30, "n": n}) + "\n" for n in range(700)))
    whole = _work(path)
    items = _items(whole)
    assert [item.item for item in items] == list(range(1, 701))
    assert [frame[2] for frame in whole if frame[0] == "items"] == [256, 512, 700]
    assert _items(_work(path, skip=512)) == items[512:] and _items(_work(path, skip=700)) == []
    cut = _items(_work(path, skip=698, tables=str(tmp_path), config=CurateConfig(cut_characters=40)))
    assert [item.item for item in cut] == [699, 699, 700, 700]
    assert "".join(item.text for item in cut[:2]) == items[698].text


def test_what_goes_wrong_is_said(tmp_path: Path):
    (tmp_path / "zeros.txt").write_bytes(b"\0\0")
    assert _work(tmp_path / "zeros.txt")[-1][:2] == ["broken", "binary"]
