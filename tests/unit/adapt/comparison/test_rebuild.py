"""The winner alone: built again without the test, the same, and asked."""

from __future__ import annotations

import pytest

from bloomery.adapt.comparison.rebuild import rebuilt
from bloomery.adapt.comparison.testing import STAGE
from bloomery.core.errors import ConfigError
from bloomery.core.workspace import Workspace
from bloomery.evaluate.sample import Sample


def test_it_is_the_same_elsewhere_and_the_test_stays_closed(made, tmp_path):
    workspace = Workspace(tmp_path / "home")
    with rebuilt(made.artifact.file("winner.toml"), workspace=workspace) as found:
        assert found.same is True and found.choices == ("yes", "no")
        answer = found.answerer.answer(Sample(id="1", input="iron built", choices=found.choices))
        assert answer.text in found.choices and not answer.error
    assert workspace.ledger.runs(stage=STAGE) == []


def test_a_task_of_several_arms_is_none(made):
    with pytest.raises(ConfigError, match="one arm"), rebuilt(made.task, workspace=made.workspace):
        pass
