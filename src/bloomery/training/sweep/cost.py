"""Cost: what a trial used, as the ledger has it, and how much of that was training.

Only training grows with the steps: what comes before it (the plan, the preflight, compiling) and after it is paid once
for each run, however far it goes. This module does not know other trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bloomery.core.ledger import Ledger
from bloomery.core.quantity import Quantity

NOTHING = Quantity.exact(0.0, "counter")
_TRAIN = "train"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """`train_joules` are those of the phase "train" of all attempts, `fixed_joules` the rest of the first one; both
    unknown where any attempt did not live to say what its phases used."""

    seconds: float
    joules: Quantity
    train_joules: Quantity
    fixed_joules: Quantity

    @classmethod
    def of(cls, ledger: Ledger, runs: Sequence[str], *, found: bool = False) -> Cost:
        """Of a trial's runs and of every attempt at the same that failed before. A trial without any is unknown;
        nothing, where its model was `found`: somebody else had trained it."""
        attempts = _attempts(ledger, runs)
        if not attempts:
            none = NOTHING if found else Quantity.unknown()
            return cls(seconds=0.0, joules=none, train_joules=none, fixed_joules=none)
        each = [Quantity.from_dict(attempt["energy_joules"]) for attempt in attempts]
        train = [_train_joules(ledger.run(attempt["id"])["phases"]) for attempt in attempts]
        return cls(
            seconds=sum(attempt["seconds"] or 0.0 for attempt in attempts),
            joules=sum(each, NOTHING),
            train_joules=sum(train, NOTHING),
            fixed_joules=each[0] - train[0],
        )


def _attempts(ledger: Ledger, runs: Sequence[str]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        for attempt in ledger.attempts(ledger.run(run)["key"]):
            if attempt["state"] != "finished" or attempt["id"] in runs:
                found.setdefault(attempt["id"], attempt)
    return list(found.values())


def _train_joules(phases: Sequence[dict[str, Any]]) -> Quantity:
    """What was training in a run; unknown where there are no phases, as of one that was killed."""
    spent = [Quantity.from_dict(phase["energy_joules"]) for phase in phases if phase["name"] == _TRAIN]
    return sum(spent, NOTHING) if phases else Quantity.unknown()
