"""What is said is heard, and who speaks is told when to stop; `tests/integration/test_ray.py` has the actor."""

from __future__ import annotations

import subprocess
import sys

from bloomery.core.ray_ear import Ear


def test_what_is_said_is_kept_until_it_was_taken_in():
    ear = Ear()
    assert not ear.tell("a") and not ear.tell("b")
    assert ear.heard(0) == ear.heard(0) == ["a", "b"]
    ear.tell("c")
    assert ear.heard(1) == ["b", "c"] and ear.heard(3) == []
    assert not ear.stopped()
    ear.stop()
    assert ear.stopped() and ear.tell("d") and ear.heard(3) == ["d"]


def test_its_process_imports_little():
    code = "import sys, bloomery.core.ray_ear; print({'torch', 'numpy', 'ray'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
