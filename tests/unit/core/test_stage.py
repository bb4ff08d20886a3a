"""Stage keys and why a stage would run."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from bloomery.core.errors import ConfigError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable, why_run
from bloomery.core.workspace import Workspace

INPUTS = StageInputs(stage="bake", config={"x": 1}, parents=("p",))


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "b"},
        {"config": {"x": 2}},
        {"parents": ()},
        {"fingerprint": "f"},
        {"seed": 1},
        {"version": 2},
        {"bloomery": "9"},
    ],
)
def test_every_field_changes_the_key(change: dict) -> None:
    assert replace(INPUTS, **change).key != INPUTS.key == replace(INPUTS).key


def test_a_seed_fits_a_ledger() -> None:
    assert replace(INPUTS, seed=2**63 - 1).key
    with pytest.raises(ConfigError, match="64 bits"):
        replace(INPUTS, seed=2**63)


def test_why(workspace: Workspace) -> None:
    ledger = workspace.ledger
    assert why_run(ledger, INPUTS) == "it has never run" and reusable(workspace, INPUTS) is None
    with pytest.raises(RuntimeError), Run(workspace, INPUTS):
        raise RuntimeError
    assert "did not finish" in why_run(ledger, INPUTS)
    with Run(workspace, INPUTS) as run:
        (run.new_folder() / "f").write_text("x")
        made = run.publish(run.scratch / "output", kind="loaf")
    assert reusable(workspace, INPUTS) == made
    assert "x 1 -> 2" in why_run(ledger, replace(INPUTS, config={"x": 2}))
    assert "reads has changed" in why_run(ledger, replace(INPUTS, parents=("q",)))
    assert "seed" in why_run(ledger, replace(INPUTS, seed=5))
    shutil.rmtree(made.path)
    assert reusable(workspace, INPUTS) is None and "gone" in why_run(ledger, INPUTS)
