"""The test: opened once for one set of frozen arms, counted where it was opened before."""

from __future__ import annotations

from dataclasses import replace

from bloomery.adapt.comparison.split import split_task
from bloomery.adapt.comparison.testing import inputs_of_test, opened_before
from bloomery.core.workspace import Workspace


def ended(workspace: Workspace, inputs, state: str, name: str) -> None:
    from bloomery.core.quantity import Quantity

    workspace.ledger.start_run(
        name, stage=inputs.stage, key=inputs.key, config=inputs.config, parents=[], seed=0, versions={}, meters={}
    )
    workspace.ledger.end_run(name, state=state, seconds=1.0, energy_joules=Quantity.unknown())


def test_attempts_that_went_on_are_one_opening(made, tmp_path):
    workspace = Workspace(tmp_path / "home")
    split = split_task(made.task.config, workspace)
    inputs = inputs_of_test(made.task.config, split, {})
    other = inputs_of_test(replace(made.task.config, alpha=0.1), split, {})
    assert opened_before(workspace, inputs) == 0
    ended(workspace, inputs, "failed", "a")
    assert opened_before(workspace, inputs) == 0 and opened_before(workspace, other) == 1
    ended(workspace, inputs, "finished", "b")
    assert opened_before(workspace, other) == 1 and opened_before(workspace, inputs) == 1
    ended(workspace, inputs, "finished", "c")
    assert opened_before(workspace, other) == 2
    elsewhere = replace(made.task.config, seed=5)
    assert opened_before(workspace, inputs_of_test(elsewhere, split_task(elsewhere, workspace), {})) == 0
