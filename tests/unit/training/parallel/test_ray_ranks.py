"""What the command hears of ranks that Ray started, and makes of it; `tests/integration/test_ray.py` has a real Ray."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from bloomery.core.errors import (
    BloomeryError,
    ConfigError,
    DataError,
    DeviceError,
    MissingExtraError,
    TrainingError,
)
from bloomery.core.events import Event
from bloomery.core.ray_ear import Ear
from bloomery.core.workspace import Workspace
from bloomery.training import ParallelConfig
from bloomery.training.parallel import ray_ranks
from bloomery.training.parallel.ray_ranks import RankFailed, Voice, _Listening, _why, error_of, on_ray
from bloomery.training.parallel.watchdog import REMEDY


class WorkerHealthCheckTimeoutError(Exception):
    """Ray's own has the same name."""


class FakeRay:
    """Calls of actors are plain calls, tasks are threads."""

    @staticmethod
    def get(answer: Any) -> Any:
        return answer.ended if isinstance(answer, Fit) else answer

    @staticmethod
    def wait(tasks: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        tasks[0].join(timeout)
        return [task for task in tasks if not task.is_alive()], []


class Actor:
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return type("Method", (), {"remote": staticmethod(getattr(self._inner, name))})


class Fit(threading.Thread):
    """What Ray's trainer does, and then says."""

    def __init__(self, do: Callable[[], dict[str, Any]]) -> None:
        super().__init__()
        self._do, self.ended = do, dict[str, Any]()
        self.start()

    def run(self) -> None:
        self.ended = self._do()


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(sys.modules, "ray", FakeRay)
    return Actor(Ear())


def _listen(ear: Any, do: Callable[[], dict[str, Any]], *listeners: Callable[[Event], None]) -> str:
    return _Listening(FakeRay, ear, Fit(do), listeners, stage="pretrain").to_the_end()


def _curve(step: int) -> Event:
    return Event(kind="curve", run="r", stage="pretrain", data={"step": step}, time=1.0)


def test_listeners_hear_rank_0_and_its_artifact_is_what_comes_out(ear: Any):
    voice, heard = Voice(ear), list[Event]()

    def do() -> dict[str, Any]:
        for step in range(5):
            voice(_curve(step))
        voice.done("0123")
        return {"said": "...", "ranks": [[1, "died"]]}

    assert _listen(ear, do, heard.append) == "0123"
    assert heard == [_curve(step) for step in range(5)]


@pytest.mark.parametrize("error", [DeviceError("no GPU", hint="--ranks 1"), MissingExtraError("x", "web", "this")])
def test_what_stops_rank_0_is_what_the_command_says(ear: Any, error: BloomeryError):
    def do() -> dict[str, Any]:
        Voice(ear).failed(error)
        Voice(ear).failed(DataError("a second rank says the same"))
        return {"said": "...", "ranks": [[0, "told"], [1, "died"]]}

    with pytest.raises(type(error)) as caught:
        _listen(ear, do)
    assert caught.value.one_line() == error.one_line()


def test_a_rank_that_died_is_named(ear: Any):
    def do() -> dict[str, Any]:
        Voice(ear).failed(TrainingError("another rank has ended", hint=REMEDY))
        return {"said": "...", "ranks": [[0, "told"], [3, "died"]]}

    with pytest.raises(TrainingError, match="rank 3 has ended: its process died") as caught:
        _listen(ear, do)
    assert "run the same command again" in caught.value.hint


def test_a_rank_lost_before_is_forgotten_for_what_stops_all(ear: Any):
    """Ray has started them again, and does so once more in vain: nobody waits for that."""
    forever = threading.Event()

    def do() -> dict[str, Any]:
        Voice(ear).failed(TrainingError("another rank has ended", hint=REMEDY))
        Voice(ear).failed(TrainingError("step 7: loss nan", hint="precision=float32"))
        while not Voice(ear).stopped:
            forever.wait(0.01)
        forever.wait(60)
        return {}

    fit = Fit(do)
    with pytest.MonkeyPatch.context() as patched, pytest.raises(TrainingError, match="step 7: loss nan"):
        patched.setattr(ray_ranks, "_GRACE_SECONDS", 0.1)
        _Listening(FakeRay, ear, fit, (), stage="pretrain").to_the_end()
    forever.set()
    fit.join()


def test_a_bug_is_none_of_these(ear: Any):
    def do() -> dict[str, Any]:
        return {"said": "...", "ranks": [[0, "told"], [1, "RuntimeError: CUDA out of memory"]]}

    with pytest.raises(RuntimeError, match="rank 1: RuntimeError: CUDA out of memory"):
        _listen(ear, do)


def test_what_ray_itself_cannot(ear: Any):
    def do() -> dict[str, Any]:
        return {"said": "no place for the workers", "ranks": []}

    with pytest.raises(TrainingError, match="Ray could not train: no place for the workers"):
        _listen(ear, do)


def test_who_has_heard_enough_makes_all_save_and_stop(ear: Any):
    voice, reached, heard = Voice(ear), threading.Event(), list[int]()

    def do() -> dict[str, Any]:
        voice(_curve(1))
        reached.wait(60)
        with pytest.raises(KeyboardInterrupt):
            voice(_curve(2))
        voice.interrupted()
        return {"said": "...", "ranks": [[0, "told"]]}

    def enough(event: Event) -> None:
        heard.append(event.data["step"])
        threading.Timer(0.1, reached.set).start()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _listen(ear, do, enough)
    assert heard == [1]


def test_why_a_worker_failed(monkeypatch: pytest.MonkeyPatch):
    ray_error = type("RayError", (Exception,), {})
    monkeypatch.setitem(sys.modules, "ray.exceptions", SimpleNamespace(RayError=ray_error))
    dead = Exception("A worker health check failed.")
    dead.health_check_failure = ray_error("SIGKILL")  # type: ignore[attr-defined]
    assert _why(dead) == _why(WorkerHealthCheckTimeoutError()) == _why(ray_error()) == "died"
    assert _why(RankFailed("no")) == "told"
    assert _why(ValueError("shapes")) == "ValueError: shapes"


def test_a_ray_without_its_trainer(ear: Any):
    with pytest.raises(MissingExtraError, match="with its trainer"):
        _listen(ear, lambda: {"missing": "ray.train"})


def test_an_error_goes_from_process_to_process():
    error = error_of("MissingExtraError", "needs x", 'pip install "bloomery[x]"')
    assert isinstance(error, MissingExtraError) and error.one_line() == 'needs x (pip install "bloomery[x]")'
    assert type(error_of("Unheard", "m", "")) is BloomeryError


def test_torchrun_and_ray_cannot_both_start_the_ranks(workspace: Workspace, monkeypatch: pytest.MonkeyPatch):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="torchrun has started the ranks"):
        on_ray({"stage": "pretrain"}, ParallelConfig(engine="ray"), workspace=workspace, device="")


def test_without_the_package(workspace: Workspace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError) as caught:
        on_ray({"stage": "pretrain"}, ParallelConfig(engine="ray"), workspace=workspace, device="")
    assert caught.value.hint == 'pip install "bloomery[ray]"'
