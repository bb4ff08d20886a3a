"""Study: trials asked of Optuna, run in processes, told back; gone on with where it was killed.

Optuna's journal (a file of JSON lines) in the workspace's `sweeps/` holds what was asked and told. A trial that was
under way when the sweep was killed is asked again with the same values, before any other and under the same number (see
`places`), and its training goes on from its checkpoint.
This module does not know recipes, nor how a trial is trained.
"""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import chain
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bloomery.core.config import digest, to_dict
from bloomery.core.errors import InUseError, MissingExtraError
from bloomery.core.locks import FileLock
from bloomery.core.workspace import Workspace
from bloomery.training.sweep.config import SweepConfig
from bloomery.training.sweep.cost import Cost
from bloomery.training.sweep.dials import Dial, combinations_of, dials_of, grid_of
from bloomery.training.sweep.halving import RUNGS, let_on
from bloomery.training.sweep.places import key_of, places, sampler_of
from bloomery.training.sweep.ray_trials import RayTrials, ray_trials
from bloomery.training.sweep.report import SweepReport, TrialRow
from bloomery.training.sweep.running import Running
from bloomery.training.sweep.trial_process import PAUSE, TrialProcess, TrialWork, forget

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

_GOES_ON = "goes_on"
_JOINED = "joined"
_NEAR = 1e-9
_DRAWS = 200
"""In search of values that were not tried yet."""
Say = Callable[[str], None]


def check_packages(config: SweepConfig) -> None:
    """MissingExtraError without what a sweep needs: better said before anything is made."""
    if find_spec("optuna") is None:
        raise MissingExtraError("optuna", "sweep", "a sweep")
    if config.engine == "ray" and find_spec("ray") is None:
        raise MissingExtraError("ray", "ray", "the engine ray")


def sweep(
    config: SweepConfig,
    work: TrialWork,
    *,
    workspace: Workspace,
    identity: Any,
    metric: str = "validation_bits_per_byte",
    jobs: int = 1,
    retry: bool = False,
    say: Say = lambda text: None,
) -> SweepReport:
    """Run a sweep to its end, or go on with it. `work` runs one trial (see `trial_process`), `identity` is all that its
    result depends on beside the dials, as JSON data, `say` hears a line for each trial. What failed before is tried
    again only with `retry`.

    Raises MissingExtraError as `check_packages` does, InUseError where another process runs this very sweep.
    """
    check_packages(config)
    import optuna

    dials = dials_of(config.dials)
    settled = {key: value for key, value in to_dict(config).items() if key not in ("trials", "engine")}
    folder = workspace.root / "sweeps"
    folder.mkdir(exist_ok=True)
    name = digest({"config": settled, "identity": identity, "metric": metric})[:16]
    lock = FileLock(folder / f"{name}.lock")
    if not lock.try_acquire():
        raise InUseError("another process is running this very sweep", hint="wait for it, or stop it first")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sweeping = _Sweeping(config, dials, work, workspace, folder / f"{name}.jsonl", name, jobs, say)
        return SweepReport(metric=metric, rows=sweeping.run(retry=retry))
    finally:
        lock.release()


class _Sweeping:
    """One call of `sweep`."""

    def __init__(
        self,
        config: SweepConfig,
        dials: list[Dial],
        work: TrialWork,
        workspace: Workspace,
        journal: Path,
        name: str,
        jobs: int,
        say: Say,
    ) -> None:
        from optuna import create_study
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        from bloomery.training.sweep.pruner import HopelessPruner

        self.config, self.dials, self.work, self.workspace, self.say = config, dials, work, workspace, say
        self.jobs = max(1, jobs)
        self.pruner = HopelessPruner(config)
        self.study: Study = create_study(
            storage=JournalStorage(JournalFileBackend(str(journal))),
            pruner=self.pruner,
            study_name=name,
            direction="minimize",
            load_if_exists=True,
        )
        self._most = min(config.trials, combinations_of(dials))
        self._grid: list[str] = []
        self._recalled: dict[int, set[int]] = {}
        self._running: dict[Any, Any] = {}
        self._waiting: set[int] = set()
        self._sharers = Running(journal.with_suffix(".running"))
        self._ray: RayTrials | None = None

    def run(self, *, retry: bool = False) -> tuple[TrialRow, ...]:
        """All trials as far as they are to go; those that are left behind lose their checkpoints."""
        self._let_go()
        if self.config.sampler == "grid":
            self._lay_out_grid()
        with ExitStack() as self._cluster:
            self._cluster.callback(self._sharers.clear)
            if retry:
                failed = [key for key, row in self._rows().items() if row.state == "failed"]
                self._drive(self._on(failed), RUNGS[0][0] if self.config.stop == "halving" else 1.0)
            if self.config.stop == "halving":
                self._halve()
            else:
                self._drive(self._new, 1.0)
        rows = tuple(self._rows().values())
        for run in {run for row in rows if row.state == "stopped" for run in row.runs}:
            forget(self.workspace.root, run)
        return rows

    def _halve(self) -> None:
        from optuna.trial import TrialState

        from bloomery.training.sweep.pruner import curve_of

        self._drive(self._new, RUNGS[0][0])
        for rung, until in enumerate([share for share, _ in RUNGS[1:]] + [1.0]):
            candidates = self._candidates()
            curves = {key: curve_of(*trials) for key, trials in candidates.items()}
            chosen = [key for key in let_on(curves, rung, len(curves)) if curves[key].share < until - _NEAR]
            # The last point of a curve need not be that of the last step.
            ended = {key for key in chosen if any(one.state == TrialState.COMPLETE for one in candidates[key])}
            self._drive(self._on(key for key in chosen if key not in ended), until)

    def _drive(self, more: Callable[[], Trial | None], until: float) -> None:
        """Run trials that `more` gives to a share of their steps, `jobs` at a time, until it gives none."""
        if self.config.engine == "ray":
            self._drive_on_ray(more, until)
            return
        running: dict[Any, tuple[Trial, TrialProcess]] = {}
        self._running = running
        try:
            while True:
                while len(running) < self.jobs and (trial := more()) is not None:
                    values = self._values(trial)
                    self._count(begin=1)
                    process = TrialProcess(self.work, values, self.workspace.root, sharers=self._sharers)
                    running[process.connection] = (trial, process)
                if not running:
                    return
                for connection in wait(list(running)):
                    if self._hear(*running[connection], until):
                        running.pop(connection)[1].join()
                        self._count()
        finally:
            for _, process in running.values():  # interrupted
                process.leave()

    def _count(self, begin: int = 0) -> None:
        """Tell trials how many there are; not those that wait for another sweep's, for they use nothing."""
        self._sharers.write(len(self._running) + begin - len(self._waiting))

    def _drive_on_ray(self, more: Callable[[], Trial | None], until: float) -> None:
        self._running = {}

        def ask() -> tuple[Trial, dict[str, Any]] | None:
            trial = more()
            if trial is None:
                return None
            self._running[trial.number] = trial
            self._count()
            return trial, self._values(trial)

        def tell(trial: Trial, message: tuple[Any, ...]) -> str | None:
            ended, answer = self._take(trial, message, until)
            if ended:
                del self._running[trial.number]
                self._count()
            return answer

        first = ask()
        if first is None:
            return  # nothing that a cluster would be needed for
        if self._ray is None:
            self._ray = self._cluster.enter_context(ray_trials(self.work, self.workspace, self.jobs, self._sharers))
        asked = chain([first], iter(ask, None))
        self._ray.drive(lambda: next(asked, None), tell)

    def _values(self, trial: Trial) -> dict[str, Any]:
        """What the dials are for a trial. What the same one had reported before a kill it will not say again, for its
        run goes on from a checkpoint: so it is reported here."""
        from optuna.trial import TrialState

        values = {dial.key: dial.suggest(trial) for dial in self.dials}
        known: dict[int, float] = {}
        for other in self.study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
            if "note" not in other.user_attrs and other.params == trial.params:
                known |= other.intermediate_values
        for step, loss in known.items():
            trial.report(loss, step)
        self._recalled[trial.number] = set(known)
        return values

    def _new(self) -> Trial | None:
        """The next trial that has come to nothing yet, by its place; one that a kill left goes before those that are
        drawn now, of values that were not tried yet, for equal trials come to the same."""
        from optuna.trial import TrialState

        there = self._places()
        ended, running = self._candidates(), {self._key(_trial_of(one)) for one in self._running.values()}
        if len(ended.keys() | running) >= self._most:
            return None
        for key in chain(there, self._grid):
            if key not in ended and key not in running:
                self.study.enqueue_trial(json.loads(key))
                return self.study.ask()
        for attempt in range(_DRAWS if self.config.sampler != "grid" else 0):
            self.study.sampler = sampler_of(self.config, len(there), attempt, parallel=self.jobs > 1)
            trial = self.study.ask()
            for dial in self.dials:
                dial.suggest(trial)
            if self._key(trial) not in there:
                return trial
            self.study.tell(trial, state=TrialState.FAIL)
        return None

    def _places(self) -> dict[str, int]:
        return places(self.dials, self.study.get_trials(deepcopy=False))

    def _key(self, trial: Trial | FrozenTrial) -> str:
        return key_of(self.dials, trial.params)

    def _on(self, keys: Iterable[str]) -> Callable[[], Trial | None]:
        """Gives candidates that go on: for Optuna each part of one is a trial, with the same values."""
        waiting = list(keys)

        def more() -> Trial | None:
            if not waiting:
                return None
            self.study.enqueue_trial(json.loads(waiting.pop(0)), user_attrs={_GOES_ON: True})
            return self.study.ask()

        return more

    def _let_go(self) -> None:
        """End for Optuna what was under way when an earlier call was killed: `_new` asks for it again, and what went on
        is chosen again anyway."""
        from optuna.trial import TrialState

        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
            self.study.tell(trial.number, state=TrialState.FAIL)

    def _candidates(self) -> dict[str, list[FrozenTrial]]:
        """The trials that have come to something by their values, in the order of their places, the parts of each
        oldest first; not those that a kill left."""
        from optuna.trial import TrialState

        trials = self.study.get_trials(deepcopy=False)
        found: dict[str, list[FrozenTrial]] = {key: [] for key in places(self.dials, trials)}
        for trial in trials:
            if trial.state.is_finished() and (trial.state != TrialState.FAIL or "note" in trial.user_attrs):
                found[self._key(trial)].append(trial)
        return {key: parts for key, parts in found.items() if parts}

    def _lay_out_grid(self) -> None:
        """Every combination, in an order drawn from the seed: the first ones should differ."""
        points = grid_of(self.dials, self.config.points)
        random.Random(self.config.seed).shuffle(points)
        self._most = min(self.config.trials, len(points))
        keys = [dial.key for dial in self.dials]
        self._grid = [key_of(self.dials, dict(zip(keys, point, strict=True))) for point in points[: self._most]]

    def _hear(self, trial: Trial, process: TrialProcess, until: float) -> bool:
        """Take one message of a trial; True if it was its last."""
        ended, answer = self._take(trial, process.message(), until)
        if answer is not None:
            process.answer(answer)
        return ended

    def _take(self, trial: Trial, message: tuple[Any, ...], until: float) -> tuple[bool, str | None]:
        """Whether a message of a trial is its last, and what it waits to be answered, if it does."""
        from optuna.trial import TrialState

        from bloomery.training.sweep.pruner import PARTS

        kind, *data = message
        if kind == "waiting":
            self._waiting.add(trial.number)
            self._count()
            self.say(f"trial {self._number(trial)} {trial.params}: waiting, {data[0]}")
            return False, None
        if trial.number in self._waiting:
            self._waiting.remove(trial.number)
            self._count()
        if kind == "run":
            trial.set_user_attr("runs", [*trial.user_attrs.get("runs", ()), data[0]])
            return False, None
        if kind == "point":
            share, loss, *before = data
            if before:
                self._tell_what_was_not(trial, *before)
            if round(share * PARTS) not in self._recalled.get(trial.number, ()):
                trial.report(loss, round(share * PARTS))
            trial.set_user_attr("share", share)
            if self.config.stop == "halving":
                return False, PAUSE if until - _NEAR <= share < 1 and until < 1 else ""
            return False, self.pruner.reason if trial.should_prune() else ""
        if kind == "done":
            trial.set_user_attr("artifact", data[0]["artifact"])
            trial.set_user_attr("share", 1.0)
            self.study.tell(trial, float(data[0]["value"]))
        else:
            share = trial.user_attrs.get("share", 0.0)
            trial.set_user_attr("note", data[0] if data else f"left at {share:.0%} of its steps")
            self.study.tell(trial, state=TrialState.FAIL if kind == "failed" else TrialState.PRUNED)
            self.workspace.close_ledger()  # opened again it writes down what a process used that was killed
        row = self._row([self.study.trials[trial.number]], self._number(trial))
        figure = f"{row.value:.4f}" if row.value is not None else row.note
        self.say(f"trial {row.number} {row.values}: {'paused' if kind == 'paused' else row.state}, {figure}")
        return True, None

    def _tell_what_was_not(self, trial: Trial, share: float, area: float) -> None:
        """Report the losses from the last that are known to the checkpoint that a trial goes on from: those of the
        moment of a kill. `area` is their sum from the beginning, as a share of the steps. Of a training that was begun
        elsewhere they stay unknown."""
        from bloomery.training.sweep.pruner import PARTS, curve_of

        parts = [*self._candidates().get(self._key(trial), ()), self.study.trials[trial.number]]
        curve = curve_of(*parts)
        if not len(curve.shares) or any(_JOINED in part.user_attrs for part in parts):
            trial.set_user_attr(_JOINED, True)
            return
        widths = np.diff(np.concatenate(([0.0], curve.shares)))
        step = round(share * PARTS)
        if step > round(curve.share * PARTS):
            trial.report(float((area - widths @ curve.losses) / (share - curve.share)), step)

    def _number(self, trial: Trial | FrozenTrial) -> int:
        """For people: the same in every part of a trial, and after a kill."""
        return self._places()[self._key(trial)]

    def _rows(self) -> dict[str, TrialRow]:
        numbers = self._places()
        return {key: self._row(trials, numbers[key]) for key, trials in self._candidates().items()}

    def _row(self, trials: list[FrozenTrial], number: int) -> TrialRow:
        """One candidate, whatever the parts that it was run in."""
        from optuna.trial import TrialState

        states = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"}
        last = next((trial for trial in trials if trial.state == TrialState.COMPLETE), trials[-1])
        runs = list(dict.fromkeys(run for trial in trials for run in trial.user_attrs.get("runs", ())))
        done = last.state == TrialState.COMPLETE
        cost = Cost.of(self.workspace.ledger, runs, found=done)
        return TrialRow(
            number=number,
            values=dict(last.params),
            state=states[last.state],
            value=last.value if done else None,
            share=max(float(trial.user_attrs.get("share", 0.0)) for trial in trials),
            seconds=cost.seconds,
            joules=cost.joules,
            train_joules=cost.train_joules,
            fixed_joules=cost.fixed_joules,
            artifact=last.user_attrs.get("artifact", ""),
            runs=tuple(runs),
            note=last.user_attrs.get("note", ""),
        )


def _trial_of(running: Any) -> Trial:
    """Of what runs here, with its process, or on Ray."""
    return running[0] if isinstance(running, tuple) else running
