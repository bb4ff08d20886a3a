"""The progress view: plain lines without control characters, a live line on a terminal, from several threads."""

from __future__ import annotations

import io
import math
from concurrent.futures import ThreadPoolExecutor

import pytest

from bloomery.core.events import Event
from bloomery.core.progress import ProgressView, shown_figure, sparkline

UNKNOWN = {"low": None, "central": None, "high": None, "method": "unknown"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def event(kind: str, **data: object) -> Event:
    return Event(kind=kind, run="r", stage="pretrain", data=data)


def progress(done: float, total: float | None = 10, **live: object) -> Event:
    return event("progress", done=done, total=total, unit="steps", phase="train", live=live)


def beat(seconds: float, joules: float) -> Event:
    value = {"low": joules, "central": joules, "high": joules, "method": "counter"}
    return event("heartbeat", seconds=seconds, energy_joules=value)


END = event("end", state="finished", error="", seconds=2.0, energy_joules=UNKNOWN)


def test_plain_lines() -> None:
    stream = io.StringIO()
    view = ProgressView(stream=stream)
    told = [event("start"), event("phase", name="train"), beat(1, 10), beat(2, 30)]
    told += [progress(i, loss=5.0 - i / 10) for i in range(5)] + [event("note", text="a\x1b[31mb"), END]
    for each in told:
        view(each)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "pretrain: started" and lines[1] == "pretrain: train"
    assert sum("steps" in line or "loss" in line for line in lines) == 1  # one in ten seconds
    assert "20.0 W" in stream.getvalue() and lines[-1] == "pretrain: finished after 2.0 s, unknown"
    assert all(c.isprintable() or c == "\n" for c in stream.getvalue())


def test_terminal_from_two_threads_with_unknown_totals_and_nan() -> None:
    stream = Terminal()
    view = ProgressView(stream=stream)
    told = [progress(i, None, loss=math.nan if i % 3 == 0 else 1.0 / (i + 1)) for i in range(40)]
    told += [beat(i, 5.0 * i) for i in range(40)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(view, told))
    view(END)
    assert "finished" in stream.getvalue() and view._live is None


def test_plan_and_quiet() -> None:
    plan = {
        "model": {"num_hidden_layers": 2, "hidden_size": 128},
        "parameters": 1000,
        "steps": 5,
        "batch_rows": 4,
        "context_length": 64,
        "precision": "float32",
        "learning_rate": 0.02,
        "predicted_seconds": 9.0,
        "epochs": 0.5,
        "predicted_bits_per_byte": UNKNOWN,
        "reasons": ["because"],
    }
    stream, silent = io.StringIO(), io.StringIO()
    for view in (ProgressView(stream=stream), ProgressView(stream=silent, quiet=True)):
        view(event("plan", **plan))
        view(event("note", text="hear this"))
    assert "2 layers x 128" in stream.getvalue() and "because" in stream.getvalue()
    assert silent.getvalue() == "pretrain: note: hear this\n"


def test_sparkline() -> None:
    assert sparkline([0.0, 7.0]) == "▁█" and sparkline([1.0, 1.0]) == "▁▁"
    assert len(sparkline([float(i) for i in range(100)], 10)) == 10


def test_an_interrupted_run_has_not_failed() -> None:
    stream = io.StringIO()
    view = ProgressView(stream=stream)
    view(event("start"))
    view(event("end", state="failed", error="interrupted", seconds=31.8, energy_joules=UNKNOWN))
    last = stream.getvalue().splitlines()[-1]
    assert "interrupted after 31.8 s" in last and last.endswith("; the same command goes on") and "failed" not in last


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("nats_per_token", 2.51234, "2.512 nats/token"),
        ("megabytes_per_second", 3.25, "3.25 MB/s"),
        ("pictures_per_second", 120, "120 pictures/s"),
        ("loss", 0.25, "loss 0.25"),
        ("learning_rate", 1e-3, "learning rate 0.001"),
        ("doing", "counting", "doing counting"),
        ("tokens/s", 31060.0, "tokens/s 31.1k"),
    ],
)
def test_figures_as_people_write_them(key: str, value: float | str, expected: str) -> None:
    assert shown_figure(key, value) == expected


def test_a_speed_that_is_no_number_is_shown() -> None:
    stream = io.StringIO()
    ProgressView(stream=stream)(progress(1, **{"tokens/s": math.nan}))
    assert "nan" in stream.getvalue()


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_a_lost_stream_does_not_stop_the_work() -> None:
    closed = io.StringIO()
    views = [ProgressView(stream=Broken()), ProgressView(stream=closed)]
    closed.close()
    for view in views:
        for each in (event("start"), event("note", text="x"), progress(1), END):
            view(each)


def test_an_event_that_makes_no_sense_is_not_taken_for_a_lost_stream() -> None:
    with pytest.raises(ValueError):
        ProgressView(stream=io.StringIO())(event("progress", done="many", total=1, unit="", phase="", live={}))
