"""Shares of a cluster, and starts that fail; clusters that start are in the tests of what uses them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bloomery.core import ray_cluster
from bloomery.core.errors import DataError, DeviceError
from bloomery.core.ray_cluster import resources, share_of_each


def test_a_start_that_fails_leaves_no_process_and_says_why(monkeypatch: pytest.MonkeyPatch):
    """Three starts, each with a process that is running when the node gives up."""
    started: list[subprocess.Popen[bytes]] = []

    class Node:
        def __init__(self) -> None:
            started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
            raise RuntimeError("The current node timed out during startup.")

        def kill_all_processes(self, *, check_alive: bool, allow_graceful: bool, wait: bool) -> None:
            started[-1].kill()
            started[-1].wait()

    class Ray:
        def init(self, **_: object) -> None:
            Node()

        def shutdown(self) -> None:
            pass

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(DataError, match="timed out during startup") as caught:
        ray_cluster._connect(Ray(), 1, "--engine local needs none")
    assert "--engine local" in caught.value.hint
    assert len(started) == 3 and all(process.returncode is not None for process in started)


def _cpus(*nodes: float) -> list[dict[str, float]]:
    return [{"CPU": cpus} for cpus in nodes]


def test_a_share_is_whole_on_its_node():
    assert share_of_each(_cpus(8, 8, 8, 8), 4) == 8
    assert share_of_each(_cpus(8, 8), 4) == 4
    assert share_of_each(_cpus(6, 2), 2) == 3  # both on the first node
    assert share_of_each(_cpus(16, 2.0), 3) == 5
    assert share_of_each(_cpus(1, 1), 3) == share_of_each([], 1) == 0
    assert share_of_each([{"CPU": 8.0, "GPU": 2.0}, {"CPU": 64.0}], 2, gpu=1.0) == 4
    assert share_of_each([{"CPU": 8.0, "GPU": 1.0}], 3, gpu=1 / 3) == 2


class _Nodes:
    def __init__(self, *resources: dict[str, float]) -> None:
        self._found = [{"Alive": True, "Resources": one} for one in resources]
        self._found.append({"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}})

    def nodes(self) -> list[dict[str, object]]:
        return self._found


def test_what_each_part_of_a_cluster_may_take():
    without, gpus = _Nodes({"CPU": 4.0}, {"CPU": 4.0}), _Nodes({"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0, "GPU": 2.0})
    assert resources(without, 2, named="ranks") == {"CPU": 4}
    assert resources(gpus, 4, named="ranks") == {"CPU": 4, "GPU": 1}
    assert resources(gpus, 2, named="ranks", gpus=False) == {"CPU": 8}
    assert resources(gpus, 8, named="trials", shared=True) == {"CPU": 2, "GPU": 0.5}
    with pytest.raises(DeviceError, match="5 ranks need a GPU each, but Ray has 4"):
        resources(gpus, 5, named="ranks")
    with pytest.raises(DeviceError, match="2 ranks need a GPU each, but Ray has 0"):
        resources(without, 2, named="ranks", gpus=True)
    with pytest.raises(DeviceError, match="9 ranks need a processor each, but Ray has 8"):
        resources(without, 9, named="ranks")
