"""A rank in a worker of Ray's torch trainer: rank 0 runs the stage, the others follow it as under torchrun.

It runs in a thread of Ray's worker, so no signal reaches it: who wants it to stop tells the ear. This module does not
know how a stage is done, nor how workers are started (`parallel.ray_ranks`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from bloomery.core.errors import TrainingError
from bloomery.core.workspace import Workspace
from bloomery.training.follower import LEADER_SECONDS, follow_jobs, is_bug
from bloomery.training.parallel.launch import is_follower
from bloomery.training.parallel.ray_ranks import RankFailed, Voice
from bloomery.training.parallel.watchdog import Watchdog
from bloomery.training.parallel.world import close_world
from bloomery.training.pretrain import lead_pretrain
from bloomery.training.train import lead_train

STAGES = {"pretrain": lead_pretrain, "train": lead_train}


def take_part(job: Mapping[str, Any], voice: Voice) -> None:
    """Do this rank's part of a job."""
    Watchdog.last_words = staticmethod(voice.failed)
    if not is_follower():
        made = STAGES[str(job["stage"])](job, Workspace(job["root"], listeners=[voice]))
        close_world()
        voice.done(made.id)
        return
    try:
        follow_jobs()
    except TrainingError as error:  # another rank is lost, which rank 0 or Ray says
        raise RankFailed(error.one_line()) from None
    except RuntimeError as error:
        if is_bug(error):
            raise
        raise RankFailed(str(error)) from None
    except Exception:
        time.sleep(LEADER_SECONDS)  # what stops all ranks alike is rank 0's to say
        raise
