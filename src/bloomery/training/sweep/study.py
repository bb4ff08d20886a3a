"""Study: trials asked of Optuna, run in processes, told back; gone on with where it was killed.

Optuna's journal (a file of JSON lines) in the workspace's `sweeps/` holds what was asked and told. A trial that was
under way when the sweep was killed is asked again with the same values, and its training goes on from its checkpoint.
This module does not know recipes, nor how a trial is trained.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from itertools import product
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.core.config import digest, to_dict
from bloomery.core.errors import ArtifactError, MissingExtraError
from bloomery.core.locks import FileLock
from bloomery.core.quantity import Quantity
from bloomery.core.workspace import Workspace
from bloomery.training.sweep.config import SweepConfig
from bloomery.training.sweep.dials import Dial, dials_of
from bloomery.training.sweep.report import SweepReport, TrialRow
from bloomery.training.sweep.trial_process import TrialProcess, TrialWork

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial

Say = Callable[[str], None]


def sweep(
    config: SweepConfig,
    work: TrialWork,
    *,
    workspace: Workspace,
    identity: Any,
    metric: str = "validation_bits_per_byte",
    jobs: int = 1,
    say: Say = lambda text: None,
) -> SweepReport:
    """Run a sweep to its end, or go on with it. `work` runs one trial (see `trial_process`), `identity` is all that its
    result depends on beside the dials, as JSON data, `say` hears a line for each trial.

    Raises MissingExtraError without Optuna, ArtifactError where another process runs this very sweep.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError("optuna", "sweep", "a sweep") from error
    dials = dials_of(config.dials)
    settled = {key: value for key, value in to_dict(config).items() if key != "trials"}
    folder = workspace.root / "sweeps"
    folder.mkdir(exist_ok=True)
    name = digest({"config": settled, "identity": identity, "metric": metric})[:16]
    lock = FileLock(folder / f"{name}.lock")
    if not lock.try_acquire():
        raise ArtifactError("another process is running this very sweep", hint="wait for it, or stop it first")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sweeping = _Sweeping(config, dials, work, workspace, folder / f"{name}.jsonl", name, jobs, say)
        return SweepReport(metric=metric, rows=sweeping.run())
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
            sampler=_sampler(config, parallel=jobs > 1),
            pruner=self.pruner,
            study_name=name,
            direction="minimize",
            load_if_exists=True,
        )
        self._most = config.trials

    def run(self) -> tuple[TrialRow, ...]:
        self._take_up_again()
        if self.config.sampler == "grid":
            self._lay_out_grid()
        running: dict[Any, tuple[Trial, TrialProcess]] = {}
        try:
            while True:
                done = self._ended()
                while len(running) < self.jobs and len(done) + len(running) < self._most:
                    trial = self.study.ask()
                    values = {dial.key: dial.suggest(trial) for dial in self.dials}
                    process = TrialProcess(self.work, values, self.workspace.root)
                    running[process.connection] = (trial, process)
                if not running:
                    return tuple(self._row(trial) for trial in done)
                for connection in wait(list(running)):
                    if self._hear(*running[connection]):
                        running.pop(connection)[1].join()
        finally:
            for _, process in running.values():  # interrupted: the trials hear it, too, and save
                process.join()

    def _take_up_again(self) -> None:
        """Ask again for what was under way when an earlier call was killed."""
        from optuna.trial import TrialState

        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.study.tell(trial.number, state=TrialState.FAIL)
            self.study.enqueue_trial(trial.params)

    def _lay_out_grid(self) -> None:
        """Every combination, in an order drawn from the seed: the first ones should differ."""
        points = list(product(*(dial.grid(self.config.points) for dial in self.dials)))
        random.Random(self.config.seed).shuffle(points)
        self._most = min(self._most, len(points))
        for point in points[: self._most]:
            values = {dial.key: value for dial, value in zip(self.dials, point, strict=True)}
            self.study.enqueue_trial(values, skip_if_exists=True)

    def _ended(self) -> list[Any]:
        """Trials that have come to something; not those that a killed sweep left, which are asked again."""
        from optuna.trial import TrialState

        ended = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
        return [trial for trial in ended if trial.state != TrialState.FAIL or "note" in trial.user_attrs]

    def _hear(self, trial: Trial, process: TrialProcess) -> bool:
        """Take one message of a trial; True if it was its last."""
        from optuna.trial import TrialState

        from bloomery.training.sweep.pruner import PARTS

        kind, *data = process.message()
        if kind == "run":
            process.runs.append(data[0])
            trial.set_user_attr("runs", process.runs)
            return False
        if kind == "point":
            share, loss = data
            trial.report(loss, round(share * PARTS))
            trial.set_user_attr("share", share)
            process.answer(self.pruner.reason if trial.should_prune() else "")
            return False
        if kind == "done":
            trial.set_user_attr("artifact", data[0]["artifact"])
            trial.set_user_attr("share", 1.0)
            self.study.tell(trial, float(data[0]["value"]))
        else:
            trial.set_user_attr("note", data[0])
            self.study.tell(trial, state=TrialState.PRUNED if kind == "stopped" else TrialState.FAIL)
        row = self._row(self.study.trials[trial.number])
        figure = f"{row.value:.4f}" if row.value is not None else row.note
        self.say(f"trial {row.number} {row.values}: {row.state}, {figure}")
        return True

    def _row(self, trial: Any) -> TrialRow:
        from optuna.trial import TrialState

        states = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"}
        seconds, joules = self._cost(trial.user_attrs.get("runs", ()))
        return TrialRow(
            number=trial.number,
            values=dict(trial.params),
            state=states[trial.state],
            value=trial.value if trial.state == TrialState.COMPLETE else None,
            share=float(trial.user_attrs.get("share", 0.0)),
            seconds=seconds,
            joules=joules,
            artifact=trial.user_attrs.get("artifact", ""),
            runs=tuple(trial.user_attrs.get("runs", ())),
            note=trial.user_attrs.get("note", ""),
        )

    def _cost(self, runs: Any) -> tuple[float, Quantity]:
        """Seconds and joules of a trial's runs and of every attempt at the same that failed before."""
        seconds, joules = 0.0, Quantity.exact(0.0, "counter")
        counted: set[str] = set()
        for run in runs:
            for attempt in self.workspace.ledger.attempts(self.workspace.ledger.run(run)["key"]):
                if attempt["id"] in counted or (attempt["state"] == "finished" and attempt["id"] != run):
                    continue
                counted.add(attempt["id"])
                seconds += attempt["seconds"] or 0.0
                joules = joules + Quantity.from_dict(attempt["energy_joules"])
        return seconds, joules


def _sampler(config: SweepConfig, *, parallel: bool) -> Any:
    from optuna.samplers import RandomSampler, TPESampler

    if config.sampler == "tpe":
        return TPESampler(seed=config.seed, constant_liar=parallel)
    return RandomSampler(seed=config.seed)
