"""RayCrew: the tasks of near_worker on Ray, on files that every node sees. This module does not know the tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bloomery.core.errors import BloomeryError, DataError
from bloomery.corpus.near_crew import Told
from bloomery.corpus.near_worker import work
from bloomery.corpus.ray_engine import ray_cluster


class RayCrew:
    """As NearCrew: `run(tasks)` does all of them and returns what each counted, in their order."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def run(self, tasks: Sequence[dict[str, Any]], told: Told | None = None) -> list[int]:
        """OSError for what the disk refused, DataError for what else goes wrong."""
        with ray_cluster(self._workers) as ray:
            remote = ray.remote(answer)
            asked = [remote.remote(task) for task in tasks]
            waiting = asked
            while waiting:
                _, waiting = ray.wait(waiting)
                if told:
                    told(len(asked) - len(waiting))
            answers = ray.get(asked)
        for said in answers:
            if "errno" in said:
                raise OSError(said["errno"], said["error"])
            if "error" in said:
                raise DataError(said["error"], hint=said["hint"])
        return [said["count"] for said in answers]


def answer(task: dict[str, Any]) -> dict[str, Any]:
    """What a task counted, or why it failed. A task that Ray repeats does the same again."""
    try:
        return {"count": work(task)}
    except OSError as error:
        return {"errno": error.errno or 5, "error": error.strerror or str(error)}
    except BloomeryError as error:
        return {"error": error.message, "hint": error.hint}
