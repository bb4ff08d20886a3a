"""Timing a step leaves no trace, and devices are checked."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bloomery.core.errors import DeviceError
from bloomery.core.quantity import Quantity
from bloomery.models import Decoder, ModelConfig
from bloomery.training import checkpoint, speed
from bloomery.training.speed import bfloat16_is_fast, choose_device, compare_threads, measure_step, muon_dtype

TINY = ModelConfig(
    vocab_size=64,
    hidden_size=64,
    intermediate_size=64,
    num_hidden_layers=1,
    num_attention_heads=1,
    num_key_value_heads=1,
    head_dim=64,
    max_position_embeddings=16,
)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_measure_step(precision: str):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    timing = measure_step(TINY, rows=2, context_length=16, precision=precision, device=torch.device("cpu"), steps=2)
    assert torch.equal(torch.rand(2), expected), "timing must not move the random state"
    assert timing.seconds > 0 and timing.compile_seconds == 0
    assert timing.tokens_per_second == pytest.approx(32 / timing.seconds)
    assert timing.parameters == sum(n for n in (64 * 64 * 2, 64 * 64 * 4, 3 * 64 * 64, 64 * 3, 64 * 2))


@pytest.mark.parametrize("better", [1, 2])
def test_numbers_of_threads_take_turns(better: int, monkeypatch: pytest.MonkeyPatch):
    """On a machine on which one of the two numbers is twice as fast."""
    seen, clock = list[int](), [0.0]

    def timed(work: Callable[[], object], device: torch.device) -> float:
        seen.append(torch.get_num_threads())
        work()
        took = 1.0 if seen[-1] == better else 2.0
        clock[0] += took
        return took

    how = {"rows": 2, "context_length": 16, "precision": "float32", "device": torch.device("cpu")}
    before = torch.get_num_threads()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with monkeypatch.context() as patch:
        patch.setattr(speed, "_timed", timed)
        patch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
        # Each warms up, then 14 s are enough for six bursts of 2 s; where the first shows that fewer are far slower, no
        # more follow.
        found = compare_threads(TINY, 2, 1, within_seconds=17.0, **how)
        assert torch.get_num_threads() == before and torch.equal(torch.rand(2), expected)
        assert seen == ([2, 1] + [2, 1, 1] * 3 if better == 1 else [2, 1, 2, 2, 1])
        assert found.share == (0.5 if better == 1 else 2.0) and not found.watts.known
        for seconds, turns in ((0.0, 1), (8.0, 1), (9.0, 2)):  # a step each, whatever the time; then what it allows
            seen.clear()
            compare_threads(TINY, 2, 1, within_seconds=seconds, **how)
            assert seen == [2, 1] * (1 + turns) or better == 2
        patch.setattr(speed, "_timed", lambda work, device: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            compare_threads(TINY, 2, 1, **how)
    assert torch.get_num_threads() == before


def test_of_few_turns_the_most_careful_counts(monkeypatch: pytest.MonkeyPatch):
    """Of three the middle one counts: one that was disturbed speaks neither for nor against."""
    clock, seen = [0.0], list[int]()

    def timed(work: Callable[[], object], device: torch.device) -> float:
        seen.append(torch.get_num_threads())
        turns = sum(1 for one, other in pairwise(seen) if (one, other) == (2, 1))
        took = 1.0 if seen[-1] == 2 else {1: 1.0, 2: 0.6, 3: 0.9, 4: 0.4}[turns]  # the first is the warming up
        clock[0] += took
        return took

    monkeypatch.setattr(speed, "_timed", timed)
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    how = {"rows": 2, "context_length": 16, "precision": "float32", "device": torch.device("cpu")}
    assert compare_threads(TINY, 2, 1, within_seconds=5.3, **how).share == 0.9
    seen.clear()
    assert compare_threads(TINY, 2, 1, within_seconds=60.0, **how).share == 0.6


def test_steps_of_short_rows_are_timed_when_asked_for(monkeypatch: pytest.MonkeyPatch):
    def timed(lengths: list[int], **options) -> float:
        states = Decoder.hidden_states

        def slow(self, input_ids: torch.Tensor) -> torch.Tensor:
            lengths.append(input_ids.size(1))
            time.sleep(0.02 if input_ids.size(1) == 16 else 0.0)
            return states(self, input_ids)

        with monkeypatch.context() as patch:
            patch.setattr(Decoder, "hidden_states", slow)
            return measure_step(TINY, rows=2, precision="float32", device=torch.device("cpu"), **options).short_cost

    lengths: list[int] = []
    assert 0 < timed(lengths, context_length=16, short_rows=True) < 1 and set(lengths) == {16, 4}
    lengths.clear()
    assert timed(lengths, context_length=16) == 1 and set(lengths) == {16}
    assert timed(lengths, context_length=15, short_rows=True) == 1 and 3 not in lengths  # which four do not divide


class TenWatts:
    """A meter that counts ten joules a second."""

    def read(self) -> Quantity:
        return Quantity.exact(10 * time.perf_counter(), "counter")

    def describe(self) -> dict[str, str]:
        return {}

    def close(self) -> None:
        return None


def test_measured_for_a_while_in_parts_with_a_meter():
    started = time.perf_counter()
    timing = measure_step(
        TINY,
        rows=4,
        micro_rows=2,
        context_length=16,
        precision="float32",
        device=torch.device("cpu"),
        at_least_seconds=0.2,
        meter=TenWatts(),
    )
    assert time.perf_counter() - started > 0.2
    assert (timing.rows, timing.micro_rows) == (4, 2)
    assert len(timing.bursts) == 3 and timing.bursts[0] > 0 and timing.build_seconds > 0
    assert timing.low <= timing.seconds <= timing.high and timing.validation_seconds > 0
    # The clock is read a few times more than the steps are: microseconds of 0.2 s.
    assert timing.watts.central == pytest.approx(10, rel=0.05) and timing.watts.method == "counter"


def test_a_meter_that_stands_still_says_nothing():
    """No step costs nothing: a counter that has not moved in so short a time, or never does, leaves watts unknown."""

    class Still(TenWatts):
        def read(self) -> Quantity:
            return Quantity.exact(7.0, "counter")

    made = measure_step(
        TINY, rows=1, context_length=8, precision="float32", device=torch.device("cpu"), steps=1, meter=Still()
    )
    assert not made.watts.known and made.seconds > 0


def test_steps_read_real_rows_and_a_checkpoint_is_timed(tmp_path: Path):
    asked = []

    def rows(count: int) -> tuple[np.ndarray, np.ndarray]:
        asked.append(count)
        ids = np.full((count, 16), len(asked) % 64)
        return ids, ids

    timing = measure_step(
        TINY,
        rows=4,
        context_length=16,
        precision="float32",
        device=torch.device("cpu"),
        batches=rows,
        folder=tmp_path,
    )
    assert set(asked) == {4} and len(asked) >= 1 + 3 + 2  # a warm-up, a step in each burst, validations between them
    assert timing.save_seconds > 0 and not list(tmp_path.iterdir())


def test_a_disk_without_room_is_for_preflight_to_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(tensors: object, path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(checkpoint, "write_pieces", full)
    how = {"rows": 2, "context_length": 16, "precision": "float32", "device": torch.device("cpu")}
    assert measure_step(TINY, folder=tmp_path, **how).save_seconds == 0 and not list(tmp_path.iterdir())


def test_two_measurements_are_one():
    one = measure_step(TINY, rows=2, context_length=16, precision="float32", device=torch.device("cpu"))
    both = one.joined(one)
    assert both.bursts == one.bursts * 2 and both.seconds == pytest.approx(float(np.median(both.bursts)))
    assert (both.low, both.high) == (one.low, one.high)


def test_devices():
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(DeviceError, match="unknown device"):
        choose_device("warp-drive")
    with pytest.raises(DeviceError, match="meta is not supported"):
        choose_device("meta")
    if not torch.cuda.is_available():
        assert choose_device().type == "cpu"
        with pytest.raises(DeviceError, match="no CUDA device"):
            choose_device("cuda")


@pytest.mark.parametrize(("seconds", "fast"), [(0.5, True), (2.0, False)])
def test_bfloat16_is_measured(monkeypatch, seconds, fast):
    """By the clock, on which a product in float32 takes one second here."""
    clock, product = [0.0], torch.mm

    def timed(a, b):
        clock[0] += seconds if a.dtype == torch.bfloat16 else 1.0
        return product(a, b)

    monkeypatch.setattr(torch, "mm", timed)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    assert bfloat16_is_fast(torch.device("cpu"), size=8, repeats=2) == fast


def test_muon_computes_as_the_run_does():
    assert muon_dtype("bfloat16") == torch.bfloat16 and muon_dtype("float32") == torch.float32
