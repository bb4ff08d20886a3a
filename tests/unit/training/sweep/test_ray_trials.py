"""What passes between Tune and the study; `tests/integration/test_ray.py` has a real Tune."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from bloomery.core.errors import MissingExtraError
from bloomery.core.workspace import Workspace
from bloomery.training.sweep.ray_trials import _Passing, ray_trials
from bloomery.training.sweep.trial_process import PAUSE


class Study:
    """Trials a and b; it answers from a list and keeps what it was told."""

    def __init__(self, *answers: str | None) -> None:
        self.left, self.answers, self.told = ["a", "b"], list(answers), list[Any]()

    def ask(self) -> tuple[str, dict[str, float]] | None:
        return (self.left.pop(0), {"rate": 1.5}) if self.left else None

    def tell(self, trial: str, message: tuple[Any, ...]) -> str | None:
        self.told.append((trial, *message))
        return self.answers.pop(0) if message[0] == "point" else None


def _passing(*answers: str | None) -> tuple[Study, _Passing]:
    study = Study(*answers)
    passing = _Passing(study.ask, study.tell)
    assert json.loads((passing.ask("t1") or {})["values"]) == {"rate": 1.5} and passing.ask("t2")
    assert passing.ask("t3") is None
    return study, passing


def test_a_trial_to_its_end():
    study, passing = _passing("")
    assert passing.told("t1", json.dumps([("run", "r1"), ("point", 0.5, 2.0)]))
    assert not passing.told("t1", json.dumps([("done", {"value": 1.0, "artifact": "m"})]))
    assert not passing.told("t1", json.dumps([("done", {})]))  # Tune tells its last result twice
    assert study.told == [
        ("a", "run", "r1"),
        ("a", "point", 0.5, 2.0),
        ("a", "done", {"value": 1.0, "artifact": "m"}),
    ]


@pytest.mark.parametrize(("answer", "end"), [(PAUSE, ("paused",)), ("hopeless", ("stopped", "hopeless"))])
def test_a_trial_that_is_not_let_on(answer: str, end: tuple[str, ...]):
    study, passing = _passing(answer)
    said = json.dumps([("point", 0.5, 2.0)])
    assert not passing.told("t2", said) and not passing.told("t2", said)
    assert study.told == [("b", "point", 0.5, 2.0), ("b", *end)]


def test_a_trial_that_waits_goes_on():
    study, passing = _passing("")
    assert passing.told("t1", json.dumps([("waiting", "for another")]))
    assert passing.told("t1", json.dumps([("point", 0.5, 2.0)]))
    assert study.told == [("a", "waiting", "for another"), ("a", "point", 0.5, 2.0)]


def test_a_trial_whose_process_dies():
    study, passing = _passing()
    passing.died("t1")
    passing.died("t1")
    assert study.told == [("a", "failed", "its process died")]


def test_without_the_package(workspace: Workspace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError) as caught, ray_trials(lambda values, listener: None, workspace, 1, None):  # type: ignore[arg-type, return-value]
        pass
    assert caught.value.hint == 'pip install "bloomery[ray]"'
