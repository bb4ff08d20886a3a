"""Which rank a process is, and in what words one has ended."""

from __future__ import annotations

import os

import pytest

from bloomery.core.errors import ConfigError
from bloomery.training.parallel.launch import how_it_ended, is_follower, launched, local_rank, threads_each


def test_torchruns_environment(monkeypatch: pytest.MonkeyPatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert launched() is None and not is_follower()
    monkeypatch.setenv("RANK", "3")
    assert launched() is None  # some schedulers set only this
    for name, value in (("WORLD_SIZE", "8"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "29500")):
        monkeypatch.setenv(name, value)
    assert launched() == (3, 8) and is_follower()
    assert local_rank(3) == 3
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert local_rank(3) == 1
    for rank, size in (("one", "8"), ("8", "8"), ("-1", "8"), ("0", "1.5")):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", size)
        with pytest.raises(ConfigError, match="RANK="):
            launched()


def test_threads_share_the_cores():
    cores = len(os.sched_getaffinity(0))
    assert threads_each(1) == cores and threads_each(10 * cores) == 1


def test_words_for_an_end():
    assert how_it_ended(-9) == "killed by SIGKILL"
    assert how_it_ended(2) == "exit code 2"
    assert how_it_ended(-63) == "killed by signal 63"
