"""Guard: says of each step, before it is taken, whether its loss and gradient are sound.

A loss or gradient norm that is not a finite number never is. With `deviations` a spike is not either: a value far above
the median of the last steps, in units of their median absolute deviation times 1.4826 (which is the standard deviation
of a normal distribution, but is not moved by the outliers that are looked for; Hampel, 1974), and at least half above
the median itself for a loss, tenfold for a norm. Two things decide a false alarm: batches of few examples, whose losses
vary like spikes (so it is for packed rows), and a loss that is nearly zero (so there is a least height).

What it remembers is plain data and part of a checkpoint. This module does not know what is done about a bad step.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

_WINDOW = 64
_LEAST = 16
"""Steps that have to be known before one is called a spike."""
_CONSISTENT = 1.4826
_LOSS_RISE, _NORM_RISE = 0.5, 9.0
"""Least height above the median, as a share of it: a loss of 3 at 4.5, a norm of 1 at 10."""
_LEAST_LOSS = 0.5
"""Nats: below this above the median a loss is no spike, however even those before were."""


class Guard:
    """`deviations`: how far out a loss or norm is a spike; 0: only what is not finite is refused."""

    def __init__(self, deviations: float = 0.0) -> None:
        self.deviations = deviations
        self._losses: deque[float] = deque(maxlen=_WINDOW)
        self._norms: deque[float] = deque(maxlen=_WINDOW)

    def judge(self, loss: float, norm: float) -> str:
        """Why the step should not be taken; "" if it is sound, which is then remembered."""
        for name, value in (("loss", loss), ("gradient norm", norm)):
            if not math.isfinite(value):
                return f"{name} is {value:g}"
        if self.deviations and len(self._losses) >= _LEAST:
            found = self._spike("loss", loss, self._losses, _LOSS_RISE, _LEAST_LOSS) or self._spike(
                "gradient norm", norm, self._norms, _NORM_RISE, 0.0
            )
            if found:
                return found
        self._losses.append(loss)
        self._norms.append(norm)
        return ""

    def state_dict(self) -> dict[str, Any]:
        """What is remembered."""
        return {"losses": list(self._losses), "norms": list(self._norms)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Remember what `state_dict()` gave, and nothing else."""
        for kept, name in ((self._losses, "losses"), (self._norms, "norms")):
            kept.clear()
            kept.extend(float(value) for value in state.get(name, ()))

    def _spike(self, name: str, value: float, before: deque[float], rise: float, least: float) -> str:
        values = np.asarray(before)
        median = float(np.median(values))
        spread = _CONSISTENT * float(np.median(np.abs(values - median)))
        above = value - median
        if above <= max(self.deviations * spread, rise * abs(median), least):
            return ""
        return f"{name} {value:.4g} where the median of the last {len(values)} steps is {median:.4g}"
