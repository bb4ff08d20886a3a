"""ProgressView: shows a run's events to a person, on stderr.

On a terminal: one live line a stage with a bar, the rate, the time left, live values, the curve of the loss and live
watts. Elsewhere plain lines, one in ten seconds at most, without control characters. It hears events from several
threads. This module does not know what a stage does.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import deque
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TextIO

from bloomery.core.events import INTERRUPTED, Event
from bloomery.core.printable import printable
from bloomery.core.quantity import Quantity

if TYPE_CHECKING:
    from rich.live import Live

_PLAIN_SECONDS = 10.0
_BLOCKS = "▁▂▃▄▅▆▇█"
_CURVE_WIDTH = 24
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


class ProgressView:
    """A listener for `Workspace(listeners=[...])`. `quiet` shows notes only."""

    def __init__(self, *, stream: TextIO | None = None, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._terminal = self._stream.isatty()
        self._lock = threading.RLock()
        self._live: Live | None = None
        self._stages: dict[str, _Stage] = {}
        self._unheard = False

    def __call__(self, event: Event) -> None:
        """Show an event. When the stream is gone (a closed terminal or pipe) it falls silent: the work goes on."""
        with self._lock:
            if self._unheard:
                return
            try:
                self._hear(event)
            except OSError:
                self._unheard = True
            except ValueError:
                if not self._stream.closed:
                    raise
                self._unheard = True

    def _hear(self, event: Event) -> None:
        if event.kind == "note":
            self._print(f"{event.stage}: note: {event.data['text']}")
        if self._quiet:
            return
        stage = self._stages.setdefault(event.run, _Stage(event.stage))
        if event.kind == "heartbeat":
            stage.beat(event.data)
        elif event.kind == "phase":
            stage.begin(event.data["name"])
        elif event.kind == "progress":
            stage.progress(event.data)
        elif event.kind == "plan":
            for line in plan_lines(event.data):
                self._print(line)
        self._show(stage, event)

    def _show(self, stage: _Stage, event: Event) -> None:
        if event.kind == "end":
            self._finish(event)
        elif self._terminal:
            self._draw(stage)
        elif event.kind == "progress" and stage.plain_is_due():
            self._print(stage.line())
        elif event.kind == "start":
            self._print(f"{stage.name}: started")
        elif event.kind == "phase":
            self._print(f"{stage.name}: {event.data['name']}")

    def _finish(self, event: Event) -> None:
        self._stages.pop(event.run, None)
        if self._live is not None:
            self._live.update("")
            self._live.stop()
            self._live = None
        joules = Quantity.from_dict(event.data["energy_joules"]).text("J")
        # Why it failed is told by whoever catches the error, once; the run's record has it too.
        interrupted = event.data["error"] == INTERRUPTED
        ended, rest = (INTERRUPTED, "; the same command goes on") if interrupted else (event.data["state"], "")
        self._print(f"{event.stage}: {ended} after {event.data['seconds']:.1f} s, {joules}{rest}")

    def _draw(self, stage: _Stage) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        if self._live is None:
            console = Console(file=self._stream)
            self._live = Live(console=console, refresh_per_second=8, transient=True, redirect_stdout=False)
            self._live.start()
        self._live.update(Text(stage.line(bar=True), no_wrap=True, overflow="ellipsis"))

    def _print(self, text: str) -> None:
        line = printable(text)
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=self._stream, flush=True)


class _Stage:
    """What is known of one running stage."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._phase = ""
        self._done, self._total = 0.0, 0.0
        self._unit = ""
        self._live: dict[str, Any] = {}
        self._losses: deque[float] = deque(maxlen=_CURVE_WIDTH * 16)
        self._samples: deque[tuple[float, float]] = deque(maxlen=64)
        self._beats: deque[tuple[float, float]] = deque(maxlen=5)
        self._said = 0.0

    def begin(self, phase: str) -> None:
        self._phase, self._done, self._total, self._unit, self._live = phase, 0.0, 0.0, "", {}
        self._samples.clear()

    def progress(self, data: dict[str, Any]) -> None:
        if data["unit"] != self._unit:
            self._samples.clear()  # the speed of other work
        self._done, self._total, self._unit = float(data["done"]), float(data["total"] or 0), data["unit"]
        self._live = data["live"]
        self._samples.append((time.monotonic(), self._done))
        loss = self._live.get("loss")
        if isinstance(loss, float) and math.isfinite(loss):
            self._losses.append(loss)

    def beat(self, data: dict[str, Any]) -> None:
        joules = data["energy_joules"]["central"]
        if joules is not None:
            self._beats.append((data["seconds"], joules))

    def plain_is_due(self) -> bool:
        now = time.monotonic()
        due = now - self._said >= _PLAIN_SECONDS
        if due:
            self._said = now
        return due

    def line(self, *, bar: bool = False) -> str:
        parts = [f"{self.name}{' ' + self._phase if self._phase else ''}"]
        if self._total:
            share = min(1.0, self._done / self._total)
            parts.append((_bar(share) + " " if bar else "") + f"{share:4.0%}")
        if self._unit and self._done:
            total = f"/{_si(self._total)}" if self._total else ""
            parts.append(f"{_si(self._done)}{total} {self._unit}")
        parts += self._speed()
        parts += [shown_figure(key, value) for key, value in self._live.items()]
        if len(self._losses) > 1:
            parts.append(sparkline(list(self._losses)))
        watts = self._watts()
        if watts is not None:
            parts.append(f"{watts:.1f} W")
        return "  ".join(parts)

    def _speed(self) -> list[str]:
        if len(self._samples) < 2 or self._samples[-1][0] - self._samples[0][0] < 0.2:
            return []
        (t0, d0), (t1, d1) = self._samples[0], self._samples[-1]
        rate = (d1 - d0) / (t1 - t0)
        if rate <= 0:
            return []
        speed = f"{_si(rate)}/s" if rate >= 1 else f"{1 / rate:.1f} s each"
        return [speed, f"{_clock((self._total - self._done) / rate)} left"] if self._total else [speed]

    def _watts(self) -> float | None:
        if len(self._beats) < 2 or self._beats[-1][0] <= self._beats[0][0]:
            return None
        (s0, j0), (s1, j1) = self._beats[0], self._beats[-1]
        return (j1 - j0) / (s1 - s0)


def shown_figure(key: str, value: float | str) -> str:
    """A named number as people write it: `nats_per_token` 2.5 is "2.5 nats/token", `loss` 2.5 is "loss 2.5"."""
    thing, per, of = key.replace("megabytes", "MB").replace("_", " ").partition(" per ")
    if per:
        unit = f"{thing}/{'s' if of == 'second' else of}"
        return f"{value:.4g} {unit}" if isinstance(value, (int, float)) else f"{value} {unit}"
    if isinstance(value, float):
        return f"{thing} {_si(value) if key.endswith('/s') else f'{value:.4g}'}"
    return f"{thing} {value}"


def plan_lines(plan: dict[str, Any]) -> list[str]:
    """A training plan (`training.Plan.to_dict`) in a few lines: sizes, work, what is expected, and why."""
    model = plan["model"]
    expected = Quantity.from_dict(plan["predicted_bits_per_byte"]).text("bits per byte")
    return [
        f"plan: {model['num_hidden_layers']} layers x {model['hidden_size']}, {plan['parameters']:,} parameters, "
        f"{plan['steps']:,} steps of {plan['batch_rows']} x {plan['context_length']} tokens, {plan['precision']}, "
        f"learning rate {plan['learning_rate']:g}",
        f"      about {plan['predicted_seconds']:.0f} s, {plan['epochs']:.2f} passes over the corpus, "
        f"expecting {expected}",
        *(f"      {reason}" for reason in plan["reasons"]),
    ]


def sparkline(values: list[float], width: int = _CURVE_WIDTH) -> str:
    """The values as block characters, the lowest lowest; more values than `width` are averaged."""
    if len(values) > width:
        edges = [round(i * len(values) / width) for i in range(width + 1)]
        values = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(values), max(values)
    if high <= low:
        return _BLOCKS[0] * len(values)
    return "".join(_BLOCKS[round((v - low) / (high - low) * (len(_BLOCKS) - 1))] for v in values)


def _bar(share: float, width: int = 20) -> str:
    full = round(share * width)
    return "━" * full + "╌" * (width - full)


def _si(value: float) -> str:
    for size, prefix in _PREFIXES:
        if abs(value) >= size:
            return f"{value / size:.3g}{prefix}"
    return f"{value:.0f}" if math.isfinite(value) and value == int(value) else f"{value:.3g}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
