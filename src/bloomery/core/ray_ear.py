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
        self._dropped = 0
        self._stop = False

    def tell(self, text: str) -> bool:
        """Say something (JSON); True if who says it should save and stop."""
        self._said.append(text)
        return self._stop

    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stop

    def heard(self, since: int) -> list[str]:
        """What has been said, but for the first `since`, which whoever asks has taken in: they are forgotten."""
        del self._said[: since - self._dropped]
        self._dropped = since
        return list(self._said)

    def stop(self) -> None:
        """Who speaks from now on is told to save and stop."""
        self._stop = True


def beside_the_command(ray: Any) -> dict[str, Any]:
    """Options of an actor or task that takes no processor, on the command's own node where it can be: a node that goes
    takes along what runs on it."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return {"num_cpus": 0, "scheduling_strategy": here}


def open_ear(ray: Any) -> Any:
    """The actor."""
    return ray.remote(**beside_the_command(ray))(Ear).remote()
