"""Runs: whatever ends them, the ledger knows time and energy."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.errors import ArtifactError, DataError
from bloomery.core.quantity import Quantity
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace

INPUTS = StageInputs(stage="bake", config={"x": 1})


class Ticking:
    """Ten joules more at every reading."""

    def __init__(self) -> None:
        self.joules, self.closed = 0.0, False

    def read(self) -> Quantity:
        self.joules += 10
        return Quantity.exact(self.joules, "counter")

    def describe(self) -> Mapping[str, Any]:
        return {"method": "counter"}

    def close(self) -> None:
        self.closed = True


def bake(workspace: Workspace, meter: Ticking | None = None):
    with Run(workspace, INPUTS, meter=meter) as run:
        with run.phase("mix"):
            (run.new_folder() / "loaf").write_text("bread")
        return run.publish(run.scratch / "output", kind="loaf", metrics={"g": 1})


def test_finished(workspace: Workspace) -> None:
    meter = Ticking()
    made = bake(workspace, meter)
    row = workspace.ledger.run(workspace.ledger.runs()[0]["id"])
    assert (row["state"], row["artifact"], row["phases"][0]["name"]) == ("finished", made.id, "mix")
    assert meter.closed and reusable(workspace, INPUTS) == made


def test_a_failure_is_recorded_with_its_energy_and_paid_by_the_next(workspace: Workspace) -> None:
    meter = Ticking()
    with pytest.raises(RuntimeError), Run(workspace, INPUTS, meter=meter) as run:
        (run.scratch / "kept").write_text("x")
        raise RuntimeError("burnt")
    failed = workspace.ledger.runs()[0]
    assert failed["state"] == "failed" and "burnt" in failed["error"] and failed["energy_joules"]["central"] > 0
    assert meter.closed and (run.scratch / "kept").exists()
    made = bake(workspace, Ticking())
    assert made.manifest["failed_attempts"] == 1
    assert (made.energy_joules.central or 0) > failed["energy_joules"]["central"]


def test_an_oserror_becomes_one_line(workspace: Workspace) -> None:
    with pytest.raises(ArtifactError, match="bake stage stopped"), Run(workspace, INPUTS):
        raise OSError(28, "No space left on device")


def test_one_artifact_a_run(workspace: Workspace) -> None:
    with pytest.raises(ArtifactError, match="already published"), Run(workspace, INPUTS) as run:
        for _ in range(2):
            (run.new_folder() / "f").write_text("x")
            run.publish(run.scratch / "output", kind="loaf")


def test_a_second_run_of_the_same_key_is_refused_and_frees_its_meter(workspace: Workspace) -> None:
    meter = Ticking()
    refused = pytest.raises(ArtifactError, match="another process")
    with Run(workspace, INPUTS), refused, Run(workspace, INPUTS, meter=meter):
        pass
    assert meter.closed
    with Run(workspace, INPUTS):
        pass


CHILD = """
import sys, time
from bloomery.core.quantity import Quantity
from bloomery.core import run as module
from bloomery.core.stage import StageInputs
from bloomery.core.workspace import Workspace
module._HEARTBEAT_SECONDS = 0.02
class Meter(module.NoMeter):
    start = time.time()
    def read(self): return Quantity.exact(100 * (time.time() - self.start), "counter")
with module.Run(Workspace(sys.argv[1]), StageInputs(stage="bake", config={"x": 1}), meter=Meter()):
    time.sleep(0.2)
    print("ready", flush=True)
    time.sleep(30)
"""


def test_sigkill_is_noticed_by_the_next_workspace(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        with pytest.raises(ArtifactError, match="another process"), Run(Workspace(tmp_path), INPUTS):
            pass
        assert Workspace(tmp_path).ledger.runs()[0]["state"] == "running"  # alive: it keeps its lock
        child.send_signal(signal.SIGKILL)
        child.wait()
    row = Workspace(tmp_path).ledger.runs()[0]
    assert row["state"] == "failed" and row["energy_joules"]["central"] > 1 and row["seconds"] > 0.1


def test_a_number_that_is_not_finite_is_noted_not_recorded(workspace: Workspace) -> None:
    notes: list[str] = []
    heard = Workspace(workspace.root, listeners=[lambda e: notes.append(e.data["text"]) if e.kind == "note" else None])
    with Run(heard, INPUTS) as run:
        run.metrics({"loss": float("nan"), "other": 1.0})
    assert [m["name"] for m in heard.ledger.run(run.id)["metrics"]] == ["other"]
    assert notes == ["loss is nan, which cannot be recorded"]


def test_a_name_that_is_not_utf8_can_be_noted_published_and_blamed(workspace: Workspace) -> None:
    inputs = StageInputs(stage="bake", config={"sources": ["caf\udce9"]})
    with pytest.raises(DataError), Run(workspace, inputs):
        raise DataError("cannot read caf\udce9")
    assert "udce9" in workspace.ledger.runs()[0]["error"]
    with Run(workspace, inputs) as run:
        run.note("caf\udce9 was skipped")
        (run.new_folder() / "loaf").write_text("bread")
        run.publish(run.scratch / "output", kind="loaf", metrics={"from": "caf\udce9"})
    made = reusable(workspace, inputs)
    assert made is not None and made.metrics["from"] == "caf\udce9"


def test_a_start_that_fails_leaves_nothing_open(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise ArtifactError("the disk is full")

    monkeypatch.setattr(workspace.ledger, "start_run", full)
    run = Run(workspace, INPUTS)
    with pytest.raises(ArtifactError, match="full"), run:
        pass
    assert run._log._stream.closed


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_under_events_and_metrics_is_said_once_and_ends_nothing(workspace: Workspace) -> None:
    notes: list[str] = []
    heard = Workspace(workspace.root, listeners=[lambda e: notes.append(e.data["text"]) if e.kind == "note" else None])
    with Run(heard, INPUTS) as run:
        run._log._stream.close()
        run._log._stream = Path("/dev/full").open("a")  # noqa: SIM115
        for number in range(3):
            run.event("step", number=number)
        pages = heard.ledger._db.execute("PRAGMA page_count").fetchone()[0]
        heard.ledger._db.execute(f"PRAGMA max_page_count={pages}")
        run.metrics({f"m{number}": 1.0 for number in range(5000)})
        heard.ledger._db.execute("PRAGMA max_page_count=100000")
        run.metrics({"after": 2.0})
    assert [m["name"] for m in heard.ledger.run(run.id)["metrics"]] == ["after"]
    assert heard.ledger.run(run.id)["state"] == "finished"
    assert len(notes) == 2 and "no room for what happens" in notes[0] and "in the ledger" in notes[1]


def test_what_was_there_to_the_bit_says_whose_it_is(workspace: Workspace) -> None:
    notes: list[str] = []
    workspace.listeners = (lambda event: notes.append(event.data["text"]) if event.kind == "note" else None,)
    runs = []
    for _ in range(2):
        with Run(workspace, StageInputs(stage="bake", config={})) as run:
            (run.new_folder() / "loaf").write_text("bread")
            run.publish(run.scratch / "output", kind="loaf")
            runs.append(run.id)
    assert len(notes) == 1 and "was there already" in notes[0] and runs[0] in notes[0]
