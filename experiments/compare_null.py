"""How often `bloomery compare` says that arms differ where none does, and how often it finds one that is better.

    python experiments/compare_null.py [RUNS]

The verdict is the real one (`adapt.comparison.ranking`); only the scores are drawn. With 100 runs, 5 by mistake is what
the level allows; exact tests with Holm's correction stay below it.
"""

from __future__ import annotations

import sys

from common import keep

from bloomery.adapt.comparison import Simulation, simulated

_NULL = ({"arms": 2}, {"arms": 5}, {"arms": 9}, {"arms": 9, "items": 1000}, {"arms": 5, "rate": 0.95})
_NULL_SLOW = ({"arms": 4, "cluster_size": 4}, {"arms": 4, "binary": False})
_LIFTS = (0.05, 0.1, 0.15, 0.2)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    rows = []
    print(f"{'no difference':58} told apart by mistake")
    for settings in (*_NULL, *_NULL_SLOW):
        config = Simulation(runs=runs, **settings)
        found = simulated(config)
        rows.append({**settings, **found.to_dict()})
        print(f"{settings!s:58} {found.told_apart:4d} of {runs}", flush=True)
    print(f"\n{'one arm of 9 better, n = 200 / 400':58} left alone, left at all, of {runs}")
    for lift in _LIFTS:
        for items in (200, 400):
            settings = {"arms": 9, "items": items, "lift": lift}
            found = simulated(Simulation(runs=runs, **settings))
            rows.append({**settings, **found.to_dict()})
            print(f"{settings!s:58} {found.best_alone:4d} {found.best_left:4d}", flush=True)
    keep("compare_null", {"runs": runs, "rows": rows})


if __name__ == "__main__":
    main()
