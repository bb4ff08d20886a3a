"""Trials on Ray Tune: our choices and our stopping rule, its placement of trials on a cluster.

Tune asks a searcher for a trial's dials and a scheduler after each of its points whether it goes on; both only pass the
question on to the study, which knows all trials. A trial is an actor, whose thread does what a process of the local
engine does, in the workspace that all nodes must see. Let go, it saves and ends; who is let on goes on from there.
Nothing that Tune writes is kept. This module does not know Optuna, nor the rule.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from bloomery.core.errors import MissingExtraError
from bloomery.core.interrupts import interrupts
from bloomery.core.processors import processors
from bloomery.core.ray_cluster import ray_cluster, resources
from bloomery.core.workspace import Workspace
from bloomery.training.sweep.running import Running
from bloomery.training.sweep.trial_process import PAUSE, TrialThread, TrialWork

T = TypeVar("T")
Ask = Callable[[], "tuple[T, Mapping[str, Any]] | None"]
"""The next trial and its dials' values; None where none is left."""
Tell = Callable[[T, tuple[Any, ...]], "str | None"]
"""Takes a message of a trial (see `trial_process`) and gives what is to be answered; None where nothing is."""
AGAIN = "run the same command again: trials go on from their checkpoints"
_DIED = "its process died"
_GOING_ON = ("waiting", "point")
"""What the last message of a step may be while there are more to come."""


class RayTrials:
    """Runs trials on a cluster, `jobs` at a time, each with its share of the processors and GPUs."""

    def __init__(self, ray: Any, work: TrialWork, workspace: Workspace, jobs: int, running: Running) -> None:
        try:
            from ray import tune
        except ImportError:
            raise MissingExtraError("ray (with its tuner)", "ray", "the engine ray") from None
        self._tune, self._workspace, self._jobs = tune, workspace, jobs
        self._share = resources(ray, jobs, named="trials", shared=True)
        self._work = work
        # Where Ray puts whom is its own matter: they are taken to be spread evenly.
        self._sharers = replace(running, nodes=max(1, sum(bool(node["Alive"]) for node in ray.nodes())))

    def drive(self, ask: Ask[T], tell: Tell[T]) -> None:
        """Run what `ask` gives until it gives none. KeyboardInterrupt once all that ran have saved."""
        tune = self._tune
        passing, interrupted = _Passing(ask, tell), threading.Event()
        trainable = tune.with_resources(_trainable(self._work, self._workspace.root, self._sharers), dict(self._share))
        with (
            TemporaryDirectory(dir=self._workspace.scratch, prefix="ray-", ignore_cleanup_errors=True) as folder,
            interrupts(interrupted, signal.SIGINT),
        ):
            tune.Tuner(
                trainable,
                tune_config=tune.TuneConfig(
                    search_alg=_searcher(passing),
                    scheduler=_scheduler(passing),
                    num_samples=-1,
                    max_concurrent_trials=self._jobs,
                ),
                run_config=tune.RunConfig(
                    name=Path(folder).name,
                    storage_path=folder,
                    verbose=0,
                    stop=_stopper(interrupted),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            ).fit()
        if interrupted.is_set():
            raise KeyboardInterrupt


@contextlib.contextmanager
def ray_trials(work: TrialWork, workspace: Workspace, jobs: int, running: Running) -> Iterator[RayTrials]:
    """With a cluster: see `core.ray_cluster`. `running` is where its trials read how many there are. DeviceError where
    it has fewer processors than `jobs`."""
    with ray_cluster(max(jobs, processors()), lost=AGAIN, instead="--engine local needs none") as ray:
        yield RayTrials(ray, work, workspace, jobs, running)


class _Passing:
    """What Tune's searcher and scheduler share: its trials, and ours."""

    def __init__(self, ask: Ask[Any], tell: Tell[Any]) -> None:
        self._ask, self._tell = ask, tell
        self._running: dict[str, Any] = {}

    def ask(self, name: str) -> dict[str, Any] | None:
        asked = self._ask()
        if asked is None:
            return None
        self._running[name], values = asked
        return {"values": json.dumps(values)}

    def told(self, name: str, said: str) -> bool:
        """Hear what a trial says in JSON; False where it should go no further, or has ended."""
        for message in json.loads(said):
            if name not in self._running:
                return False
            answer = self._tell(self._running[name], tuple(message))
            if answer:
                self._tell(self._running.pop(name), ("paused",) if answer == PAUSE else ("stopped", answer))
            elif message[0] not in ("waiting", "run", "point"):
                del self._running[name]
        return name in self._running

    def died(self, name: str) -> None:
        if name in self._running:
            self._tell(self._running.pop(name), ("failed", _DIED))


def _searcher(passing: _Passing) -> Any:
    from ray.tune.search import Searcher

    class Asking(_Unkept, Searcher):
        """Gives the study's choices."""

        def suggest(self, trial_id: str) -> Any:
            return self.kept.ask(trial_id) or self.FINISHED

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            """The scheduler has told."""

        def save(self, checkpoint_path: str) -> None:
            """The study's journal has it all."""

    made = Asking()
    made.kept = passing
    return made


def _scheduler(passing: _Passing) -> Any:
    from ray.tune.schedulers import FIFOScheduler

    class Telling(_Unkept, FIFOScheduler):
        """Lets a trial go on or not as the study says."""

        def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
            return self.CONTINUE if self.kept.told(trial.trial_id, result["said"]) else self.STOP

        def on_trial_complete(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> None:
            self.kept.told(trial.trial_id, result["said"])

        def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
            self.kept.died(trial.trial_id)

    made = Telling()
    made.kept = passing
    return made


def _stopper(interrupted: threading.Event) -> Any:
    from ray.tune import Stopper

    class Interrupt(_Unkept, Stopper):
        """Ends them all when somebody asks for it."""

        def __call__(self, trial_id: str, result: Any) -> bool:
            return False

        def stop_all(self) -> bool:
            return self.kept.is_set()

    made = Interrupt()
    made.kept = interrupted
    return made


class _Unkept:
    """Tune writes its parts down to go on from; ours go on from the study's journal, and hold what cannot be copied."""

    kept: Any

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


def _trainable(work: TrialWork, root: Path, sharers: Running) -> type:
    from ray.tune import Trainable

    folder = Path.cwd()

    class RayTrial(Trainable):
        """An actor with one trial; a step of it is a point of the curve."""

        def setup(self, config: dict[str, Any]) -> None:
            with contextlib.suppress(OSError):
                os.chdir(folder)
            self._trial = TrialThread(work, json.loads(config["values"]), root, sharers=sharers)
            self._last = ""

        def step(self) -> dict[str, Any]:
            if self._last == "point":
                self._trial.answer("")
            said = [self._trial.message()]
            while said[-1][0] == "run":
                said.append(self._trial.message())
            self._last = said[-1][0]
            return {"said": json.dumps(said), "done": self._last not in _GOING_ON}

        def cleanup(self) -> None:
            if self._last in _GOING_ON:
                self._trial.leave()
            else:
                self._trial.join()

    return RayTrial
