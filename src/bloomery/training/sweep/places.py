"""Places: the trials that were asked for, in the order in which their values were drawn.

A trial's place is its number for people, and with the seed all that its draws depend on; Optuna counts each part that a
trial is run in anew, and each time that it is asked again. Nothing of it is kept: a journal has all that was drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bloomery.core.config import canonical_json
from bloomery.training.sweep.config import SweepConfig
from bloomery.training.sweep.dials import Dial

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def key_of(dials: Sequence[Dial], values: Mapping[str, Any]) -> str:
    """Text that is the same for equal values; "" where a dial has none yet, as of a trial killed while it was drawn."""
    if any(dial.key not in values for dial in dials):
        return ""
    return canonical_json({dial.key: dial.kept(values[dial.key]) for dial in dials})


def places(dials: Sequence[Dial], trials: Iterable[FrozenTrial]) -> dict[str, int]:
    """Each trial's place by its key, in order. Of Optuna's trials, oldest first, whatever has become of them."""
    found: dict[str, int] = {}
    for trial in trials:
        if key := key_of(dials, trial.params) or key_of(dials, trial.system_attrs.get("fixed_params", {})):
            found.setdefault(key, len(found))
    return found


def sampler_of(config: SweepConfig, place: int, attempt: int, *, parallel: bool) -> Any:
    """What draws the values of one place. Where TPE has seen enough it also depends on the trials that have ended, and
    on those that run: they are the same after a kill as without one where one runs at a time."""
    from optuna.samplers import RandomSampler, TPESampler

    # Seeds side by side would have one place's attempts draw what another's do.
    seed = int(np.random.SeedSequence([config.seed, place, attempt]).generate_state(1)[0])
    if config.sampler == "tpe":
        return TPESampler(seed=seed, constant_liar=parallel)
    return RandomSampler(seed=seed)
