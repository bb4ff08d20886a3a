"""A follower's run leaves no trace."""

from __future__ import annotations

from bloomery.training.parallel.silent_run import SilentRun


def test_nothing_is_written(tmp_path):
    run = SilentRun(tmp_path)
    with run.phase("train"):
        run.event("x")
        run.note("y")
        run.progress(1, 2, unit="steps")
        run.metrics({"loss": 1.0}, step=1)
    assert run.scratch == tmp_path and not list(tmp_path.iterdir())
