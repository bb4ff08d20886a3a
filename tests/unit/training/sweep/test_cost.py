"""What a trial used, and how much of it was training, out of the ledger."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ArtifactError
from bloomery.core.quantity import Quantity
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs
from bloomery.core.workspace import Workspace
from bloomery.training.sweep.cost import Cost

INPUTS = StageInputs(stage="train", config={})


class Dial:
    """A meter that a test turns."""

    joules = 0.0

    def read(self):
        return Quantity.exact(self.joules, "counter")

    def describe(self):
        return {}

    def close(self):
        pass


def _run(workspace, **phases):
    """A run that fails after phases of so many joules."""
    meter = Dial()
    with pytest.raises(ArtifactError), Run(workspace, INPUTS, meter=meter) as run:
        for name, joules in phases.items():
            with run.phase(name):
                meter.joules += joules
        meter.joules += 1
        raise ArtifactError("left")
    return run.id


def test_training_and_what_is_paid_once(tmp_path):
    workspace = Workspace(tmp_path)
    runs = [_run(workspace, plan=5.0, train=20.0), _run(workspace, plan=2.0, train=30.0)]
    cost = Cost.of(workspace.ledger, runs)
    assert (cost.joules.central, cost.train_joules.central, cost.fixed_joules.central) == (59.0, 50.0, 6.0)
    assert cost.seconds > 0 and Cost.of(workspace.ledger, runs[1:]) == cost  # who failed before counts, too


def test_what_did_not_live_to_say_is_unknown(tmp_path):
    workspace = Workspace(tmp_path)
    cost = Cost.of(workspace.ledger, [_run(workspace, train=20.0), _run(workspace)])
    assert cost.joules.central == 22.0 and not cost.train_joules.known


def test_a_trial_without_a_run_is_unknown_and_a_model_that_was_there_cost_nothing(tmp_path):
    ledger = Workspace(tmp_path).ledger
    assert not Cost.of(ledger, []).joules.known and Cost.of(ledger, [], found=True).joules.central == 0.0
