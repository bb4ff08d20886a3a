"""Digests seen: the same answers as a plain set, and errors of the disk are OSErrors."""

from __future__ import annotations

import errno
import hashlib
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bloomery.corpus.dedup import FirstSeen, SeenDigests


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.lists(st.integers(0, 30)))
def test_it_answers_as_a_plain_set_does(tmp_path: Path, numbers: list[int]):
    plain: set[int] = set()
    with SeenDigests(tmp_path / "seen") as seen:
        for number in numbers:
            assert seen.add(hashlib.sha256(bytes([number])).digest()) == (number not in plain)
            plain.add(number)


def test_what_an_earlier_attempt_left_is_forgotten(tmp_path: Path):
    with SeenDigests(tmp_path / "seen") as seen:
        assert seen.add(b"0" * 32)
    (tmp_path / "torn").write_bytes(b"not a database")
    for name in ("seen", "torn"):
        with SeenDigests(tmp_path / name) as seen:
            assert seen.add(b"0" * 32)


def test_a_full_disk_is_an_oserror(tmp_path: Path):
    with SeenDigests(tmp_path / "seen") as seen:
        seen._connection.execute("PRAGMA max_page_count=8")
        with pytest.raises(OSError) as caught:
            for n in range(100_000):
                seen.add(hashlib.sha256(str(n).encode()).digest())
    assert caught.value.errno == errno.ENOSPC
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)


def test_the_name_given_first_is_remembered(tmp_path: Path):
    with FirstSeen(tmp_path / "seen") as seen:
        one, other = (hashlib.sha256(bytes([n])).digest() for n in range(2))
        assert [seen.find(one), seen.first(one, "a"), seen.first(one, "b"), seen.first(other, "c")] == ["", "", "a", ""]
        assert [seen.find(one), seen.find(other)] == ["a", "c"]
