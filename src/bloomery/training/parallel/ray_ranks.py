"""Ranks as the workers of Ray's torch trainer, on a cluster or on this machine.

The command's process only listens: rank 0, wherever Ray puts it, runs the stage as it would under torchrun, writes into
the workspace (which all nodes must see) and tells an actor, the ear, what happens; the others follow it. Ray places the
ranks, sets torchrun's variables and notices the death of a worker; steps, checkpoints and the watch over those that
stand still are those of `world`. This module does not know stages: what a worker does is in `training.ray_rank`.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist

from bloomery.core import errors
from bloomery.core.artifact import Artifact
from bloomery.core.config import to_dict
from bloomery.core.errors import ArtifactError, BloomeryError, ConfigError, MissingExtraError, TrainingError
from bloomery.core.events import Event, Listener, now
from bloomery.core.processors import processors
from bloomery.core.ray_cluster import ray_cluster, resources
from bloomery.core.ray_ear import beside_the_command, open_ear
from bloomery.core.workspace import Workspace
from bloomery.training.parallel.launch import launched
from bloomery.training.parallel.parallel_config import ParallelConfig
from bloomery.training.parallel.watchdog import REMEDY

WORKER = "bloomery.training.ray_rank"
_GLANCE_SECONDS = 0.2
_PATIENCE_SECONDS = 60.0
_GRACE_SECONDS = 3.0
_DIED, _TOLD = "died", "told"


class RankFailed(RuntimeError):
    """Ends a worker whose trouble the ear has been told."""


class Voice:
    """A rank's way to the ear; a listener of its run."""

    def __init__(self, ear: Any) -> None:
        self._ear = ear

    def __call__(self, event: Event) -> None:
        """At a point of the curve it waits for the answer: KeyboardInterrupt makes the loop save and stop."""
        if self._tell("event", asdict(event), answered=event.kind == "curve"):
            raise KeyboardInterrupt

    def done(self, artifact: str) -> None:
        """Rank 0 has published an artifact, of this id."""
        self._tell("done", artifact, answered=True)

    def failed(self, error: BloomeryError) -> None:
        """What ended the run; of several the first one counts."""
        self._tell("failed", [type(error).__name__, error.message, error.hint], answered=True)

    @property
    def stopped(self) -> bool:
        """Whether the ranks should not even begin."""
        import ray

        return ray.get(self._ear.stopped.remote())

    def interrupted(self) -> None:
        """The run has saved and stopped."""
        self._tell("interrupted", None, answered=True)

    def _tell(self, kind: str, value: Any, *, answered: bool) -> bool:
        import ray

        answer = self._ear.tell.remote(json.dumps([kind, value]))
        return bool(ray.get(answer)) if answered else False


def on_ray(job: Mapping[str, Any], config: ParallelConfig, *, workspace: Workspace, device: str) -> Artifact:
    """What rank 0 publishes of a job, whose "stage" names it. `device` is the stage's: "" takes GPUs where Ray has one
    for each rank. Listeners of the workspace hear rank 0's run.

    Raises what rank 0 raises; TrainingError where a worker dies; KeyboardInterrupt once all have saved.
    """
    if launched() is not None:
        raise ConfigError("torchrun has started the ranks, which Ray should start", hint="--engine local")
    config.check(config.ranks)
    settings: dict[str, Any] = {"root": str(workspace.root), "cwd": str(Path.cwd()), "worker": WORKER}
    settings["parallel"] = to_dict(replace(config, engine="local", restarts=0))
    local = max(config.ranks, processors())
    with (
        ray_cluster(local, lost=REMEDY, instead="--engine local needs none") as ray,
        TemporaryDirectory(dir=workspace.scratch, prefix="ray-", ignore_cleanup_errors=True) as folder,
    ):
        share = resources(ray, config.ranks, gpus=device.startswith("cuda") if device else None, named="ranks")
        workspace.close_ledger()  # for SQLite, one machine at a time: rank 0 may be on another one
        ear = open_ear(ray)
        fitting = ray.remote(**beside_the_command(ray), max_retries=0)(_fit)
        fit = fitting.remote({**job, **settings}, ear, config.ranks, config.restarts, share, folder)
        listening = _Listening(ray, ear, fit, workspace.listeners, stage=str(job["stage"]))
        try:
            made = listening.to_the_end()
        finally:
            ray.cancel(fit, force=True)  # what it may still do is in vain; once it has ended, this does nothing
    found = workspace.published(made)
    if found is None:
        raise ArtifactError(
            f"rank 0 has published {made[:12]}, which is not in {workspace.root}",
            hint="do all nodes of the cluster see this folder?",
        )
    return found


class _Listening:
    """The command's part: it hears what the ranks say until they have ended."""

    def __init__(self, ray: Any, ear: Any, fit: Any, listeners: Sequence[Listener], *, stage: str) -> None:
        """`fit` is what `_fit` will have returned."""
        self._ray, self._ear, self._fit, self._listeners, self._stage = ray, ear, fit, listeners, stage
        self._stopped: BaseException | None = None
        self._failure: BloomeryError | None = None
        self._made, self._heard, self._patient, self._over = "", 0, True, math.inf

    def to_the_end(self) -> str:
        """The id of what rank 0 has published."""
        began = time.monotonic()
        while True:
            try:
                ended, _ = self._ray.wait([self._fit], timeout=_GLANCE_SECONDS)
                self._hear()
                if ended:
                    return self._outcome(self._ray.get(self._fit))
                if time.monotonic() > self._over:
                    return self._outcome({})
                if self._patient and not self._heard and time.monotonic() - began > _PATIENCE_SECONDS:
                    self._patient = False
                    self._say("note", text="waiting for Ray to start the ranks: it may be busy")
            except KeyboardInterrupt as interrupt:
                self._stop(interrupt)

    def _hear(self) -> None:
        for text in self._ray.get(self._ear.heard.remote(self._heard)):
            self._heard += 1
            kind, value = json.loads(text)
            if kind == "event":
                self._pass_on(Event(**value))
            elif kind == "done":
                self._made = value
            elif kind == "failed" and (self._failure is None or _is_loss(self._failure)):
                self._failure = error_of(*value)
            if kind == "interrupted" or (kind == "failed" and not _is_loss(self._failure)):
                # Whatever Ray does now, such as starting them once more, it does in vain.
                self._ear.stop.remote()
                self._over = min(self._over, time.monotonic() + _GRACE_SECONDS)

    def _pass_on(self, event: Event) -> None:
        if self._stopped is not None and event.kind == "curve":
            return  # who has stopped the run has heard enough of it
        for listener in self._listeners:
            try:
                listener(event)
            except BaseException as error:  # a listener that has heard enough, or Ctrl-C
                self._stop(error)

    def _say(self, kind: str, **data: Any) -> None:
        self._pass_on(Event(kind=kind, run="", stage=self._stage, data=data, time=now()))

    def _stop(self, why: BaseException) -> None:
        """Have the ranks save and stop; asked again by Ctrl-C, leave at once."""
        if self._stopped is None:
            self._stopped = why
            self._ear.stop.remote()
        elif isinstance(why, KeyboardInterrupt):
            raise why

    def _outcome(self, ended: Mapping[str, Any]) -> str:
        """What came of it; `ended` is what `_fit` has returned, or nothing."""
        if self._made:
            return self._made
        if self._stopped is not None and (self._failure is None or _is_loss(self._failure)):
            raise self._stopped
        if "missing" in ended:
            raise MissingExtraError("ray (2.51 or newer, with its trainer)", "ray", "the engine ray")
        dead = [rank for rank, why in ended.get("ranks", []) if why == _DIED]
        if dead and (self._failure is None or _is_loss(self._failure)):
            raise TrainingError(f"rank {min(dead)} has ended: its process died", hint=REMEDY)
        if self._failure is not None:
            raise self._failure
        for rank, why in ended.get("ranks", []):
            if why not in (_DIED, _TOLD):  # a bug, or no memory
                raise RuntimeError(f"rank {rank}: {why}")
        raise TrainingError(f"Ray could not train: {ended.get('said', 'it ended without a word')}"[:400], hint=REMEDY)


def _is_loss(error: BloomeryError | None) -> bool:
    """Whether an error is only another rank's end."""
    return isinstance(error, TrainingError) and error.hint == REMEDY


def error_of(kind: str, message: str, hint: str) -> BloomeryError:
    """An error of another process, which its class's name, message and hint make up."""
    found = getattr(errors, kind, BloomeryError)
    error = found.__new__(found)
    BloomeryError.__init__(error, message, hint=hint)
    return error


# In Ray's processes


def _fit(
    job: Mapping[str, Any], ear: Any, ranks: int, restarts: int, share: Mapping[str, float], folder: str
) -> dict[str, Any]:
    """Run Ray's trainer until all ranks have ended; {}, or how they failed: "said" by Ray and, for each rank that
    did, [rank, why] in "ranks"."""
    try:
        from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError:
        return {"missing": "ray.train"}

    def worker() -> None:
        _work(job, ear)

    trainer = TorchTrainer(
        worker,
        torch_config=TorchConfig(backend="gloo"),  # until we have our own group
        scaling_config=ScalingConfig(
            num_workers=ranks, use_gpu=bool(share.get("GPU")), resources_per_worker=dict(share)
        ),
        run_config=RunConfig(
            name=Path(folder).name,
            storage_path=folder,
            failure_config=FailureConfig(max_failures=restarts),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
    try:
        trainer.fit()
    except Exception as error:
        failures = getattr(error, "worker_failures", {})
        said = str(error).strip().splitlines() or [type(error).__name__]
        return {"said": said[-1], "ranks": [[rank, _why(failure)] for rank, failure in failures.items()]}
    return {}


def _why(failure: Exception) -> str:
    """Why a worker failed: its process has died, it has told the ear, or something else, in words."""
    from ray.exceptions import RayError

    if isinstance(failure, RankFailed):
        return _TOLD
    wrapped = getattr(failure, "health_check_failure", failure)
    if type(failure).__name__.startswith("WorkerHealthCheck") or isinstance(wrapped, RayError):
        return _DIED
    return f"{type(failure).__name__}: {failure}"


def _work(job: Mapping[str, Any], ear: Any) -> None:
    """A worker's whole life."""
    voice = Voice(ear)
    if voice.stopped:  # started again after what no start mends
        raise RankFailed("stopped")
    try:
        with contextlib.suppress(OSError):
            os.chdir(job["cwd"])
        _meet()
        import_module(job["worker"]).take_part(job, voice)
    except BloomeryError as error:
        voice.failed(error)
        raise RankFailed(error.one_line()) from None
    except KeyboardInterrupt:
        voice.interrupted()
        raise RankFailed("interrupted") from None


def _meet() -> None:
    """Agree on a port for our own store, through the process group that Ray has made; then that goes, for `World` makes
    one whose waiting ends when a rank does."""
    port = torch.zeros(1, dtype=torch.int64)
    if os.environ["RANK"] == "0":
        with socket.create_server(("", 0)) as found:
            port[0] = found.getsockname()[1]
    dist.broadcast(port, 0)
    dist.destroy_process_group()
    os.environ["MASTER_PORT"] = str(int(port))
