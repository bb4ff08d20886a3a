"""`bloomery doctor`."""

from __future__ import annotations

import json
from pathlib import Path


def test_json(call, tmp_path: Path):
    answer = call("doctor", "--json", "--home", str(tmp_path))
    checks = json.loads(answer.out)
    names = {check["name"] for check in checks}
    assert {"python", "torch", "cores", "memory", "bfloat16", "home"} <= names
    assert any(name.startswith("energy") for name in names)
    assert {check["state"] for check in checks} <= {"ok", "note", "problem"}


def test_a_home_that_cannot_be_written(call, tmp_path: Path):
    (tmp_path / "file").write_text("")
    answer = call("doctor", "--home", str(tmp_path / "file" / "home"))
    call.error_line(answer)
    assert "problem  home" in answer.out
