"""What is said is heard once, and who speaks is told when to stop; `tests/integration/test_ray.py` has the actor."""

from __future__ import annotations

import subprocess
import sys

from bloomery.core.ray_ear import Ear


def test_what_is_said_is_heard_once_and_in_order():
    ear = Ear()
    assert not ear.tell("a") and not ear.tell("b")
    assert ear.heard() == ["a", "b"] and ear.heard() == []
    assert not ear.stopped()
    ear.stop()
    assert ear.stopped() and ear.tell("c") and ear.heard() == ["c"]


def test_its_process_imports_little():
    code = "import sys, bloomery.core.ray_ear; print({'torch', 'numpy', 'ray'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
