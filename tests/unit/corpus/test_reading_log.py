"""Reading log: pieces are there whole or not at all, and say where to go on."""

from __future__ import annotations

import json
from pathlib import Path

from bloomery.corpus.reading_log import Place, ReadingLog


def _frame(n: int) -> bytes:
    return json.dumps(["items", [["document", n, 0, "", "é" * 100]], n], ensure_ascii=False).encode()


def _log(folder: Path, piece_bytes: int = 500) -> ReadingLog:
    log = ReadingLog(folder)
    log.piece_bytes = piece_bytes
    return log


def _numbers(log: ReadingLog) -> list[int]:
    return [number for _, _, number in log.replay()]


def _fill(log: ReadingLog, start: int, stop: int) -> None:
    for n in range(start, stop):
        log.add(_frame(n))
        log.settle(Place(n, n * 10))


def test_pieces_and_the_place_behind_them(tmp_path: Path):
    with _log(tmp_path) as log:
        _fill(log, 0, 10)
        assert log.pieces == 3 and log.place == Place(9, 90)
    again = _log(tmp_path)
    assert _numbers(again) == list(range(9)) and again.place == Place(8, 80) and not again.ended
    _fill(again, 9, 10)
    again.settle(Place(10, None), ended=True)
    whole = _log(tmp_path)
    assert _numbers(whole) == list(range(10)) and whole.ended and whole.place == Place(10, None)
    assert not list(tmp_path.glob("half*"))


def test_a_place_within_a_span(tmp_path: Path):
    asked = {"start": 5, "stop": None, "sure": False, "lines": 1, "quotes": 0}
    with _log(tmp_path, 1) as log:
        log.add(_frame(0))
        log.settle(Place(3, 5).within(asked, page=0))
    assert _log(tmp_path).place == Place(3, 5, page=0, items=0, at=asked)


def test_a_damaged_piece_ends_the_log_before_it(tmp_path: Path):
    with _log(tmp_path) as log:
        _fill(log, 0, 12)
    first, second, third, fourth = sorted(tmp_path.iterdir())
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 1
    second.write_bytes(data)
    log = _log(tmp_path)
    assert _numbers(log) == [0, 1, 2] and log.place == Place(2, 20)
    assert sorted(tmp_path.iterdir()) == [first] and not third.exists() and not fourth.exists()


def test_a_piece_ends_when_it_is_old_enough(tmp_path: Path):
    log = _log(tmp_path, 1 << 30)
    log.piece_seconds = 0.0
    _fill(log, 0, 2)
    assert log.pieces == 2
