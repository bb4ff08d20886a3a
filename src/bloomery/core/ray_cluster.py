"""A Ray cluster: the one that the caller has connected to, that of RAY_ADDRESS, or one on this machine.

Ray moves functions and values between its processes in its own way; nothing of that is read from a file of a user.
This module does not know what is done there.
"""

from __future__ import annotations

import logging
import math
import os
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from bloomery.core.errors import DataError, DeviceError, MissingExtraError

_STORE_BYTES = 512 * 1024 * 1024  # of the cluster on this machine: blocks on their way, a few for each processor
# A node's agent has 15 seconds to name its port, which cannot be set and which a busy machine does not keep at first;
# once what it imports is in memory, it does.
_STARTS = 3
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is told to anybody
    "RAY_worker_register_timeout_seconds": "180",
    "RAY_worker_niceness": "0",  # on this machine: no nicer than the command that waits for them
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean what they mean to the caller
    "RAY_TRAIN_V2_ENABLED": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # and so is what is said
    "RAY_AIR_NEW_OUTPUT": "0",
}
_LEVELS = {"ray": logging.ERROR, "ray.data": logging.ERROR, "ray.train": logging.CRITICAL, "ray.tune": logging.CRITICAL}


@contextmanager
def ray_cluster(workers: int, *, lost: str, instead: str) -> Iterator[Any]:
    """The module ray, connected: to what the caller has connected to, or the cluster of RAY_ADDRESS, or else to one of
    `workers` processors on this machine that ends with the block.

    `lost` is the hint where Ray gives up inside, `instead` what needs no Ray. MissingExtraError without the package,
    DataError where no cluster is reached, or where it is lost.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings(), ExitStack() as quiet:
        for name, level in _LEVELS.items():
            quiet.enter_context(_only(name, level))
        warnings.filterwarnings("ignore", module=r"ray(\.|$)")  # of Ray about its own parts
        try:
            import ray
            import ray.data
            from ray.exceptions import RayError
        except ImportError:
            raise MissingExtraError("ray", "ray", "the engine ray") from None
        quiet.enter_context(_silent_raylet(ray))
        mine = not ray.is_initialized()
        if mine:
            _connect(ray, workers, instead)
        try:
            yield ray
        except RayError as error:
            said = str(error).strip().splitlines()
            raise DataError(
                f"Ray gave up: {type(error).__name__}: {said[-1] if said else ''}"[:400], hint=lost
            ) from error
        finally:
            if mine:
                ray.shutdown()


def share_of_each(nodes: Sequence[Mapping[str, float]], parts: int, gpu: float = 0.0) -> int:
    """Processors that each of some parts, which takes so much of a GPU, can have when none is divided over nodes (of
    which each has so many "CPU" and "GPU"); 0 where they do not fit."""

    def places(node: Mapping[str, float], share: int) -> int:
        fit = int(node.get("CPU", 0)) // share
        return min(fit, int(node.get("GPU", 0) / gpu + 1e-9)) if gpu else fit

    for share in range(int(max((node.get("CPU", 0) for node in nodes), default=0)), 0, -1):
        if sum(places(node, share) for node in nodes) >= parts:
            return share
    return 0


def resources(ray: Any, parts: int, *, named: str, gpus: bool | None = None, shared: bool = False) -> dict[str, float]:
    """What of the cluster each of some parts may take, so that all fit: "CPU", and "GPU" where it has any and `gpus` is
    not False. DeviceError where they do not fit; several parts have one GPU only if it may be `shared`."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    found = 0 if gpus is False else sum(int(node.get("GPU", 0)) for node in nodes)
    if (gpus or found) and found < parts and not (found and shared):
        hint = "fewer of them, or device=cpu"
        raise DeviceError(f"{parts} {named} need a GPU each, but Ray has {found}", hint=hint)
    gpu = min(1.0, 1 / math.ceil(parts / found)) if found else 0.0
    cpus = share_of_each(nodes, parts, gpu)
    if not cpus:
        total = sum(int(node.get("CPU", 0)) for node in nodes)
        beside = f" beside the {found} GPUs" if found else ""
        raise DeviceError(f"{parts} {named} need a processor each{beside}, but Ray has {total}", hint="fewer of them")
    return {"CPU": cpus, **({"GPU": gpu} if gpu else {})}


def _connect(ray: Any, workers: int, instead: str) -> None:
    address = os.environ.get("RAY_ADDRESS") or "local"
    here: dict[str, Any] = {}
    if address == "local":
        here = {"num_cpus": workers, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    for attempt in range(1, _STARTS + 1):
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **here)
            return
        except Exception as error:  # of no kind of its own when a process did not start in time
            _end_node(error)
            ray.shutdown()
            if attempt == _STARTS or address != "local":
                hint = f"is this machine too busy for it? {instead}"
                hint = hint if address == "local" else f"RAY_ADDRESS names the cluster; {instead}"
                said = str(error).strip().split("\n")[0]
                raise DataError(f"cannot reach Ray at {address}: {said}"[:400], hint=hint) from error


def _end_node(error: Exception) -> None:
    """End the processes of a node that failed to start: Ray forgets them, and they run for as long as this one."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if callable(end := getattr(frame.f_locals.get("self"), "kill_all_processes", None)):
            end(check_alive=False, allow_graceful=False, wait=True)
            return


@contextmanager
def _only(name: str, level: int) -> Iterator[None]:
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _silent_raylet(ray: Any) -> Iterator[None]:
    """Ray prints to stdout what it tells the caller as an error anyway, such as the death of a worker; its own debugger
    keeps that off the terminal in this way."""
    module, name = ray._private.worker, "_worker_logs_enabled"
    before = getattr(module, name, None)
    if before is None:  # another version: it is noise, no more
        yield
        return
    setattr(module, name, False)
    try:
        yield
    finally:
        setattr(module, name, before)
