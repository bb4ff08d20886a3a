"""The loop's own parts; the stage's tests and the kill test cover it as a whole."""

from __future__ import annotations

import os
import signal
import threading

import pytest
import torch

from bloomery.training.batches import BatchObjective
from bloomery.training.contrastive import ContrastiveObjective
from bloomery.training.labels import ClassificationObjective, RegressionObjective, TaggingObjective
from bloomery.training.loop import Progress, _interrupts, _random_state, _set_random_state
from bloomery.training.objective import HIGHER_IS_BETTER
from bloomery.training.relevance import RelevanceObjective
from bloomery.training.text_pairs import TextContrastiveObjective


def test_random_state_round_trip():
    device = torch.device("cpu")
    torch.manual_seed(5)
    state = _random_state(device)
    first = torch.rand(4)
    _set_random_state(state, device)
    assert torch.equal(torch.rand(4), first)


def test_first_signal_asks_second_stops():
    flag = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    with _interrupts(flag):
        os.kill(os.getpid(), signal.SIGINT)
        assert flag.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_no_handlers_outside_the_main_thread():
    seen = []

    def work() -> None:
        with _interrupts(threading.Event()):
            seen.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_progress_is_plain_data():
    progress = Progress(step=3, tokens=12, losses=[[1, 4, 2.5]])
    assert Progress(**vars(progress)) == progress


def test_which_way_every_headline_is_better():
    """`keep_best` would keep the worst weights of an objective whose headline is not listed as it should be."""
    better = {ClassificationObjective, TaggingObjective, TextContrastiveObjective}
    worse = {RegressionObjective, ContrastiveObjective, RelevanceObjective, BatchObjective}
    assert {one.headline for one in better} | {"r_squared", "reward", "macro_f1"} == HIGHER_IS_BETTER
    assert not {one.headline for one in worse} & HIGHER_IS_BETTER
