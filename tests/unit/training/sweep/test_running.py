"""How many trials run, through a file."""

from __future__ import annotations

import pytest

from bloomery.training.sweep.running import Running


def test_a_number_for_all_or_for_each_node(tmp_path):
    running = Running(tmp_path / "a.running")
    running.write(5)
    assert running() == 5 and Running(running.path, nodes=2)() == 3 and Running(running.path, nodes=9)() == 1
    running.write(0)
    assert running() == 1 and [path.name for path in tmp_path.iterdir()] == ["a.running"]
    running.clear()
    assert running() == 1 and not list(tmp_path.iterdir())
    running.clear()


@pytest.mark.parametrize("text", ["", "two", "3\x00"])
def test_who_cannot_know_is_alone(tmp_path, text):
    (tmp_path / "a.running").write_text(text)
    assert Running(tmp_path / "a.running")() == 1


def test_a_number_that_cannot_be_renewed_goes(tmp_path):
    running = Running(tmp_path / "a.running")
    running.write(4)
    (tmp_path / "a.running.partial").mkdir()  # in its way, as a full disk would be
    running.write(1)
    assert not running.path.exists() and running() == 1
