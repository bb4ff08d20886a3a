"""An ear: an actor of Ray that hears what processes of a cluster say, and tells them when they should stop.

It stands here, and not beside those who speak, because its process imports this module: it is light. This module does
not know what is said.
"""

from __future__ import annotations

from typing import Any


class Ear:
    """Between those who work and the command that waits: what they say, and whether they should stop."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._stop = False

    def tell(self, text: str) -> bool:
        """Say something (JSON); True if who says it should save and stop."""
        self._said.append(text)
        return self._stop

    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stop

    def heard(self) -> list[str]:
        """What has been said since this was last asked."""
        said, self._said = self._said, []
        return said

    def stop(self) -> None:
        """Who speaks from now on is told to save and stop."""
        self._stop = True


def open_ear(ray: Any) -> Any:
    """The actor. Beside the command, where it can: a node that goes takes its actors with it."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Ear).remote()
