"""Processors: what the system allows, or what there is where it does not tell."""

from __future__ import annotations

import os

import psutil
import pytest

from bloomery.core.processors import processors


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not tell")
def test_what_is_allowed():
    assert processors() == len(psutil.Process().cpu_affinity())


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert processors() == 1
