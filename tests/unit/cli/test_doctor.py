"""`bloomery doctor`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest


def test_json(call, tmp_path: Path):
    answer = call("doctor", "--json", "--home", str(tmp_path))
    checks = json.loads(answer.out)
    names = {check["name"] for check in checks}
    assert {"python", "torch", "cores", "memory", "bfloat16", "home"} <= names
    assert any(name.startswith("energy") for name in names)
    step = next(check for check in checks if check["name"] == "decode step")
    assert "native decode step" in step["text"] if step["state"] == "ok" else "native step" in step["text"]
    assert {check["state"] for check in checks} <= {"ok", "note", "problem"}


def test_a_home_that_cannot_be_written(call, tmp_path: Path):
    (tmp_path / "file").write_text("")
    answer = call("doctor", "--home", str(tmp_path / "file" / "home"))
    call.error_line(answer)
    assert "problem  home" in answer.out


def test_torch_that_cannot_be_loaded(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # what Python does for a package that is not there
    answer = call("doctor", "--home", str(tmp_path))
    assert "PyTorch cannot be loaded" in call.error_line(answer)
    assert "home" in answer.out
