"""A follower: a process of rank 1 or more, which takes part in whatever rank 0 begins, until that sends it home.

    python -m bloomery.training.follower        as rank 0 starts it; torchrun's followers come from the command line

It writes nothing but its part of a checkpoint, and prints nothing but the one line of what ended it, if that was its
own. This module does not know how a stage is done.
"""

from __future__ import annotations

import signal
import sys
import time

from bloomery.core.errors import BloomeryError, TrainingError
from bloomery.training.parallel.world import World, join
from bloomery.training.pretrain import follow_pretrain
from bloomery.training.train import follow_train

STAGES = {"pretrain": follow_pretrain, "train": follow_train}
FAILED = 2
LEADER_SECONDS = 3.0
"""What rank 0 has to say of an error that stops all ranks alike, before it is told of another one."""


def follow() -> int:
    """Do rank 0's jobs; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rank 0 hears it, too, and says what follows from it
    try:
        follow_jobs()
    except BloomeryError as error:
        # What stops all ranks alike is rank 0's to say, which then ends this one; so is the loss of another rank.
        if not isinstance(error, TrainingError):
            time.sleep(LEADER_SECONDS)
            print(f"rank {_rank()}: error: {error.one_line()}", file=sys.stderr)
        return FAILED
    except RuntimeError as error:
        if "out of memory" in str(error):
            print(f"rank {_rank()}: error: out of memory on the device", file=sys.stderr)
        elif is_bug(error):
            raise
        return FAILED
    return 0


def follow_jobs() -> None:
    """Join the other ranks, and take part in what rank 0 begins until it sends this one home."""
    world = join()
    while (job := world.told()) is not None:
        _take_part(world, job)
    world.close()


def _take_part(world: World, job: dict[str, object]) -> None:
    try:
        STAGES[str(job["stage"])](world, job)
    except KeyboardInterrupt:  # all ranks have saved and stopped
        return


def _rank() -> str:
    from bloomery.training.parallel.launch import launched

    return str((launched() or ("?", 0))[0])


def is_bug(error: RuntimeError) -> bool:
    """Whether an error is neither another rank's end nor the store's."""
    import torch.distributed as dist

    return not (isinstance(error, dist.DistError) or "gloo" in str(error) or "Connection" in str(error))


if __name__ == "__main__":
    sys.exit(follow())
