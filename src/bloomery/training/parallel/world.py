"""World: the processes that train one model, and how the first of them tells the others what to do.

The leader (rank 0) runs the command, writes the files, but for others' parts of checkpoints, and talks to the user.
Followers wait for jobs, which are JSON; tensors go through torch.distributed: gloo between CPUs, NCCL between GPUs.
When one of them dies the others end within seconds and the leader says how to go on. Ranks on several machines need one
file system. This module does not know what a job is, nor models.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore, rendezvous  # pyright: ignore[reportPrivateImportUsage]

from bloomery.core.errors import BloomeryError, ConfigError, DeviceError, TrainingError
from bloomery.training.parallel.launch import Followers, launched, local_rank, loopback, threads_each
from bloomery.training.parallel.parallel_config import ParallelConfig
from bloomery.training.parallel.watchdog import REMEDY, Watchdog

_FOREVER = timedelta(days=30)
_JOIN = timedelta(minutes=5)
_GOODBYE_SECONDS = 10.0
_GLANCE_SECONDS = 0.05

_ours: World | None = None


class World:
    """All ranks, seen by one of them."""

    def __init__(self, store: Store, rank: int, size: int, followers: Followers | None = None) -> None:
        self.rank, self.size, self.followers = rank, size, followers
        self._store, self._told, self._connected = store, 0, ""
        self.watchdog: Watchdog | None = None

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    @property
    def on_this_machine(self) -> int:
        """Ranks on this machine."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", self.size))

    def _await_followers(self) -> None:
        """Until all have joined. TrainingError if one that we started has ended, or has not come in time."""
        until = time.monotonic() + _JOIN.total_seconds()
        while self.followers is not None and not self._store.check([f"process/{n}" for n in range(1, self.size)]):
            if ended := self.followers.ended():
                raise TrainingError(f"rank {ended[0]} has ended: {ended[1]}", hint="bloomery doctor")
            if time.monotonic() > until:
                raise TrainingError(f"not all of {self.size} ranks have begun within {_JOIN}", hint="fewer --ranks")
            time.sleep(_GLANCE_SECONDS)

    def followers_here(self) -> tuple[int, ...]:
        """For the leader: process ids of torchrun's followers on its machine. Our own are its children."""
        if self.followers is not None:
            return ()
        found = []
        for rank in range(1, self.size):
            self._store.wait([f"process/{rank}"], _JOIN)
            host, process = json.loads(self._store.get(f"process/{rank}"))
            found += [process] if host == socket.gethostname() else []
        return tuple(found)

    def told(self, value: Any = None) -> Any:
        """The leader's `value`, JSON data, given to all; waits for it however long it takes."""
        key = f"told/{self._told}"
        self._told += 1
        if self.leads:
            self._store.set(key, json.dumps(value))
            return value
        self._store.wait([key], _FOREVER)
        return json.loads(self._store.get(key))

    def device(self, device: torch.device) -> torch.device:
        """This rank's own: its GPU, or the CPU. DeviceError if there are fewer GPUs than ranks here."""
        if device.type != "cuda":
            return device
        count = torch.cuda.device_count()
        if count < self.on_this_machine:
            raise DeviceError(
                f"{self.on_this_machine} ranks need a GPU each, but this machine has {count}",
                hint=f"--ranks {max(1, count)}, or the device cpu",
            )
        own = torch.device("cuda", local_rank(self.rank))
        torch.cuda.set_device(own)
        return own

    def connect(self, device: torch.device, config: ParallelConfig) -> None:
        """Let tensors on CPU, or on CPU and GPU, go between all ranks, and watch over them. All ranks call it."""
        if self._connected != device.type:
            self._await_followers()
            if self._connected:
                dist.destroy_process_group()
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                store=PrefixStore(f"group/{self._told}", self._store),
                rank=self.rank,
                world_size=self.size,
                timeout=_FOREVER,
            )
            self._connected = device.type
        if self.watchdog is None:
            self.watchdog = Watchdog(self._another_client(), self.rank, self.size, self.followers)
        self.watchdog.begin(stall_seconds=config.stall_seconds, stall_factor=config.stall_factor)

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Inside, the death or standstill of a rank becomes a TrainingError that names it and the remedy."""
        try:
            yield
        except RuntimeError as error:
            found = self.watchdog.verdict if self.watchdog is not None else ""
            found = found or self._lost(error)
            if not found:
                raise
            raise TrainingError(found, hint=REMEDY) from error
        finally:
            if self.watchdog is not None:
                self.watchdog.rest()

    def close(self, *, failed: bool = False) -> None:
        """Send the followers home; after a failure they are ended."""
        global _ours
        if self.watchdog is not None:  # first: a follower that goes home is no loss
            self.watchdog.close()
        if self.leads and not failed:
            with contextlib.suppress(RuntimeError):
                self.told(None)
        if self.followers is not None:
            self.followers.kill() if failed else self.followers.wait(_GOODBYE_SECONDS)
        if self._connected:
            dist.destroy_process_group()
            self._connected = ""
        if _ours is self:
            _ours = None

    def _lost(self, error: RuntimeError) -> str:
        """Which rank has ended, if `error` comes from that; "" if it is another error."""
        text = str(error)
        network = isinstance(error, dist.DistError) or "gloo" in text or "Connection" in text
        if not network:
            return ""
        # Who saw the connection close is often a moment ahead of the system's word that a process ended.
        ended = self.watchdog.wait_for_end(2.0) if self.watchdog is not None else None
        return f"rank {ended[0]} has ended: {ended[1]}" if ended else "another rank has ended"

    def _another_client(self) -> Store:
        """A connection of its own to the store, for the watchdog's thread."""
        host, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
        if self.followers is not None:
            inner = self._store
            assert isinstance(inner, TCPStore)
            host, port = inner.host, str(inner.port)
        return TCPStore(host, int(port), is_master=False, timeout=_JOIN)


def join() -> World:
    """The world of the process that torchrun, or our own launcher, started. ConfigError if its environment is wrong."""
    found = launched()
    assert found is not None
    try:
        store, rank, size = next(rendezvous("env://", timeout=_JOIN))
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"cannot join the other ranks: {error}", hint="torchrun sets what this needs") from error
    if rank:
        store.set(f"process/{rank}", json.dumps([socket.gethostname(), os.getpid()]))
    return World(store, rank, size)


@contextlib.contextmanager
def open_world(config: ParallelConfig) -> Iterator[World | None]:
    """The ranks of a stage: torchrun's, which stay until the process ends; else as many as `config` asks for, started
    here and sent home after; None for one. ConfigError, or whatever ends the stage, ends the others, too."""
    global _ours
    if _ours is not None:
        config.check(_ours.size)
        yield _ours
        return
    found = launched()
    if found is not None and found[1] > 1:
        if found[0]:
            raise ConfigError(f"rank {found[0]} follows rank 0 and cannot begin a stage", hint="bloomery VERB ...")
        if config.ranks not in (1, found[1]):
            raise ConfigError(f"torchrun started {found[1]} ranks, but {config.ranks} are asked for")
        config.check(found[1])
        _ours = join()
        yield _ours
        return
    config.check(config.ranks)
    if config.ranks == 1:
        yield None
        return
    with _begun(config) as world:
        yield world


@contextlib.contextmanager
def _begun(config: ParallelConfig) -> Iterator[World]:
    """A world of our own followers."""
    global _ours
    threads = torch.get_num_threads()
    store = _own_store()
    world = _ours = World(store, 0, config.ranks, Followers(config.ranks, store.port))
    torch.set_num_threads(min(threads, threads_each(config.ranks)))
    failed = True
    try:
        yield world
        failed = False
    finally:
        world.close(failed=failed)
        torch.set_num_threads(threads)


def _own_store() -> TCPStore:
    """Where our own ranks meet, for processes of this machine alone: by itself PyTorch listens on every address."""
    listening = socket.create_server((loopback(), 0))
    port = listening.getsockname()[1]
    return TCPStore(
        loopback(),
        port,
        is_master=True,
        wait_for_workers=False,
        timeout=_JOIN,
        master_listen_fd=listening.detach(),
    )


def followers(world: World | None) -> tuple[int, ...]:
    """`World.followers_here`; none without a world."""
    return () if world is None else world.followers_here()


def close_world() -> None:
    """At the end of a command: send home what torchrun started, whether or not there was anything to train."""
    found = launched()
    if found is None or found[1] == 1 or found[0]:
        return
    world = _ours
    if world is None:
        with contextlib.suppress(BloomeryError):
            world = join()
    if world is not None:
        world.close()
