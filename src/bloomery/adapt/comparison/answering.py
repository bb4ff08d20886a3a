"""Answering: an answerer over samples, every answer kept as it comes, so that a killed process goes on.

The file of answers is JSON lines in the order in which they came; a line that a crash cut off is dropped. Energy that
an answer does not tell is the machine's, metered while it was made. This module does not know what is compared.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import asdict, replace
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from bloomery.core.asking import FAILURES_IN_A_ROW
from bloomery.core.errors import RequestError
from bloomery.core.quantity import Quantity
from bloomery.core.run import Meter, NoMeter
from bloomery.evaluate.sample import Answered, Answerer, Call, Sample, Score, Scorer

MOST_FAILED = 0.1
"""Share of questions that a server may fail to answer: they count as wrong, and it is said."""
_GOES_ON = "what was answered is kept: the same command goes on"


def answered_all(
    answerer: Answerer,
    samples: Sequence[Sample],
    path: Path | None = None,
    *,
    concurrency: int = 1,
    meter: Meter | None = None,
    going_on: Callable[[], bool] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Answered]:
    """An answer for each sample, in their order; those that the file has are taken from it, but errors: they are asked
    again.

    Where `going_on` says no, no more are asked, and those without an answer are missing from what comes back. It is
    asked when all that went out before has come back, so that where a budget ends does not depend on who was quicker.

    RequestError where more than MOST_FAILED of the samples, or FAILURES_IN_A_ROW, have no answer by no fault of their
    own: a server that is gone is no bad answerer.
    """
    kept = read_answers(path) if path is not None else []
    found = {one.sample_id: one for one in kept if not one.error}
    waiting = [sample for sample in samples if sample.id not in found]
    progress(len(samples) - len(waiting))
    failures = _Failures(answerer.name, len(samples))
    for one in _asked(answerer, waiting, concurrency, meter or NoMeter(), going_on):
        found[one.sample_id] = one
        if path is not None:
            _keep(path, one)
        progress(len(found))
        failures.count(one.error if one.failed else "")
    return [found[sample.id] for sample in samples if sample.id in found]


class _Failures:
    """Ends it with a RequestError once there are too many."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total = name, total
        self._failed = self._in_a_row = 0

    def count(self, why: str) -> None:
        """An empty text is no failure."""
        self._failed, self._in_a_row = self._failed + bool(why), self._in_a_row + 1 if why else 0
        if why and (self._failed > MOST_FAILED * self._total or self._in_a_row == FAILURES_IN_A_ROW):
            said = f"{self._name}: {self._failed:,} of {self._total:,} questions failed, the last of them: {why}"
            raise RequestError(said, hint=_GOES_ON, status=502)


def _asked(
    answerer: Answerer, samples: Sequence[Sample], concurrency: int, meter: Meter, going_on: Callable[[], bool] | None
) -> Iterator[Answered]:
    if concurrency == 1:
        for sample in samples:
            if going_on is not None and not going_on():
                return
            yield _metered(answerer, sample, meter)
        return
    with ThreadPoolExecutor(concurrency, thread_name_prefix="answer") as pool:
        if going_on is None:
            yield from _as_they_come(answerer, iter(samples), pool, concurrency)
            return
        for start in range(0, len(samples), concurrency):
            wave = list(takewhile(lambda _: going_on(), samples[start : start + concurrency]))
            yield from pool.map(answerer.answer, wave)
            if len(wave) < concurrency:
                return


def _as_they_come(
    answerer: Answerer, queue: Iterator[Sample], pool: ThreadPoolExecutor, concurrency: int
) -> Iterator[Answered]:
    running = {pool.submit(answerer.answer, sample) for sample in islice(queue, concurrency)}
    while running:
        done = wait(running, return_when=FIRST_COMPLETED).done
        running -= done
        for future in done:
            yield future.result()
        running |= {pool.submit(answerer.answer, sample) for sample in islice(queue, len(done))}


def _metered(answerer: Answerer, sample: Sample, meter: Meter) -> Answered:
    before, began = meter.read(), time.perf_counter()
    one = answerer.answer(sample)
    seconds = one.seconds or time.perf_counter() - began
    kept = any(call.cached for call in one.calls)
    energy = one.energy_joules if one.energy_joules.known or kept else meter.read() - before
    return replace(one, seconds=seconds, energy_joules=energy)


def scores_of(samples: Sequence[Sample], answers: Sequence[Answered], scorer: Scorer) -> list[Score]:
    """What each answer is worth. RequestError where a judge could not be asked about as many as in `answered_all`:
    nobody knows what they are worth. A few are worth 0, and say so (`unjudged`)."""
    found: list[Score] = []
    failures = _Failures(scorer.name, len(samples))
    for sample, one in zip(samples, answers, strict=True):
        score = scorer.score(sample, one)
        found.append(score)
        failures.count(unjudged(score))
    return found


def unjudged(score: Score) -> str:
    """Why the judge could not be asked; "" where it was."""
    return str(score.details.get("error", ""))


def scored(samples: Sequence[Sample], answers: Sequence[Answered], scorer: Scorer) -> tuple[float, ...]:
    """What each sample's answer is worth; 0 where there is none. Errors as `scores_of`."""
    by_id = {one.sample_id: one for one in answers}
    asked = [one for one in samples if one.id in by_id]
    worth = {one.sample_id: one.value for one in scores_of(asked, [by_id[one.id] for one in asked], scorer)}
    return tuple(worth.get(one.id, 0.0) for one in samples)


def mean_of(values: Sequence[float]) -> float:
    """0 of none."""
    return sum(values) / max(1, len(values))


def read_answers(path: Path) -> list[Answered]:
    """Answers of a file; a last line without an end, which a crash left, is none."""
    if not path.is_file():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) != len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return [_answered(json.loads(line)) for line in whole.splitlines() if line.strip()]


def _keep(path: Path, one: Answered) -> None:
    line = json.dumps(plain(one), ensure_ascii=False) + "\n"
    with path.open("ab") as file:
        file.write(line.encode("utf-8", "backslashreplace"))


def plain(one: Answered) -> dict[str, Any]:
    """As JSON data."""
    return json.loads(json.dumps(asdict(one), default=str))


def _answered(value: dict[str, Any]) -> Answered:
    calls = tuple(Call(**call) for call in value["calls"])
    return Answered(**{**value, "calls": calls, "energy_joules": Quantity.from_dict(value["energy_joules"])})
