"""What the experiments share: where data lies, intervals over seeds, arms run two at a time, results kept as JSON.

Results go to `experiments/results/NAME.json`; `python experiments/write_results.py` makes `docs/results.md` of them.
This module does not know any experiment.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bloomery.core.wilson import wilson

T = TypeVar("T")
PROJECT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"
SEEDS = (0, 1, 2)


def data(*parts: str) -> Path:
    """A file of the real data beside the project, or wherever BLOOMERY_DATA points."""
    root = Path(os.environ.get("BLOOMERY_DATA") or PROJECT.parent / "shared" / "data")
    path = root.joinpath(*parts)
    if not path.exists():
        raise SystemExit(f"error: {path} is not there\nhint: BLOOMERY_DATA=folder of the data")
    return path


def stdlib_sources(*, least: int = 2_000, most: int = 60_000) -> list[str]:
    """The source files of this Python's standard library, tests aside, in order of their names."""
    root = Path(sysconfig.get_paths()["stdlib"])
    kept = []
    for path in sorted(root.rglob("*.py")):
        parts = set(path.relative_to(root).parts)
        if parts & {"site-packages", "test", "tests", "idlelib", "lib2to3", "encodings", "pydoc_data", "__pycache__"}:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if least <= len(text) <= most:
            kept.append(text)
    return kept


def over_seeds(values: Sequence[float]) -> dict[str, float]:
    """Mean and the two ends of its 95% interval by Student's t; with one value the ends are unknown (nan)."""
    from scipy import stats

    found = np.asarray(values, dtype=float)
    mean = float(found.mean())
    if len(found) < 2:
        return {"mean": mean, "low": math.nan, "high": math.nan, "n": len(found)}
    half = float(stats.t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / math.sqrt(len(found)))
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": len(found)}


def paired_bootstrap(differences: np.ndarray, *, resamples: int = 10_000, seed: int = 0) -> dict[str, float]:
    """Mean of per-example differences and its 95% percentile interval, examples resampled."""
    rng = np.random.default_rng(seed)
    found = np.asarray(differences, dtype=float)
    means = np.array([found[rng.integers(0, len(found), len(found))].mean() for _ in range(resamples)])
    low, high = np.percentile(means, [2.5, 97.5])
    return {"mean": float(found.mean()), "low": float(low), "high": float(high), "n": len(found)}


def share_interval(right: int, total: int) -> dict[str, float]:
    """A share with Wilson's 95% interval."""
    low, high = wilson(right, total)
    return {"mean": right / total, "low": low, "high": high, "n": total}


def shown(value: Mapping[str, float], form: str = ".2f") -> str:
    """A mean with its interval, for people."""
    if math.isnan(value["low"]):
        return f"{value['mean']:{form}} (one seed)"
    return f"{value['mean']:{form}} ({value['low']:{form}} to {value['high']:{form}})"


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def run_arms(
    work: Callable[..., T], arms: Sequence[tuple[Any, ...]], *, jobs: int = 2, settings: Any = None
) -> list[T]:
    """`work(*arm)` for each arm, `jobs` processes at a time with one thread each; results in the arms' order.

    With `settings`, what results depend on beside the arm, each is kept as JSON in the workspace that its arm begins
    with: an experiment that was stopped goes on with the arms that are missing, if its workspace is still there.
    """
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        return list(pool.map(partial(_kept, work, settings), arms))


def _kept(work: Callable[..., T], settings: Any, arm: tuple[Any, ...]) -> T:
    if settings is None:
        return work(*arm)
    path = kept_path(work, settings, arm)
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        part = path.with_suffix(".partial")
        part.write_text(json.dumps(work(*arm), ensure_ascii=False), encoding="utf-8")
        part.replace(path)
    return json.loads(path.read_text(encoding="utf-8"))


def kept_path(work: Callable[..., Any], settings: Any, arm: tuple[Any, ...]) -> Path:
    """Where `run_arms` keeps what an arm gave."""
    named = json.dumps([work.__name__, arm[1:], settings], sort_keys=True)
    return Path(arm[0]) / "arms" / f"{hashlib.sha256(named.encode()).hexdigest()[:16]}.json"


def scratch_home(home: str) -> AbstractContextManager[str]:
    """The workspace that was asked for, or one that is gone afterwards."""
    if home:
        Path(home).mkdir(parents=True, exist_ok=True)
    return nullcontext(home) if home else tempfile.TemporaryDirectory(prefix="bloomery-experiment-")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """One JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def machine() -> str:
    """What this is, for a result's footer."""
    import torch

    told = f"{os.cpu_count()} cores, {platform.machine()}, PyTorch {torch.__version__}"
    return f"{told}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else told


def keep(name: str, result: Mapping[str, Any]) -> None:
    """Write a result, with the machine that it was measured on, and say where it is."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **result}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"kept in {path.relative_to(PROJECT)}; python experiments/write_results.py makes docs/results.md")
